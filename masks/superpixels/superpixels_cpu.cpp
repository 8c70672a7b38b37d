// Felzenszwalb's superpixels on a CPU (docs/method.md, section 11.5): the schema and the function. One thread does all,
// several workers read images in parallel.
//
// Every edge between two neighbouring pixels is one word: its cost, a whole number, above where it lies. Rows are smoothed
// as they are needed and become edges at once; a radix sort by cost leaves edges of equal cost in the order they were
// made, so ties have one answer; then the edges are walked twice, merging segments. At its peak a pixel takes 84 bytes,
// of which the edges and the sort take 64.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

namespace {

using at::Tensor;

// Costs are counted in 2^-31 of the range of a channel: the largest, the square root of 3, still fits 32 bits.
constexpr double kUnit = int64_t{1} << 31;
constexpr double kLargestCost = std::numeric_limits<uint32_t>::max();

// An edge: the cost in the upper 32 bits, below it the pixel that comes first in the image, then 2 bits for the
// direction of the other one, of those that lie behind it.
using Edge = uint64_t;
enum Direction : uint32_t { kRight, kDown, kDownRight, kDownLeft };
constexpr int64_t kDirections = 4;
constexpr int64_t kMostPixels = int64_t{1} << 30;

// The weights from the centre of a Gaussian to one side, cut after four sigma. With those of the other side they sum to 1.
std::vector<double> gaussian(double sigma) {
  std::vector<double> weights(static_cast<int64_t>(4 * sigma + 0.5) + 1, 1.0);
  double sum = 1;
  for (size_t i = 1; i < weights.size(); ++i) {
    weights[i] = std::exp(-0.5 * static_cast<double>(i * i) / (sigma * sigma));
    sum += 2 * weights[i];
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

// Where index i of an axis with `size` pixels lies when the axis goes on as its own mirror image, both ends doubled.
int64_t reflect(int64_t i, int64_t size) {
  i %= 2 * size;
  if (i < 0) i += 2 * size;
  return i < size ? i : 2 * size - 1 - i;
}

// Rows of the smoothed image with values of 0..1, each as three planes of W.
class Smoother {
 public:
  Smoother(const uint8_t* image, int64_t H, int64_t W, double sigma)
      : image_(image), H_(H), W_(W), weights_(gaussian(sigma)), radius_(weights_.size() - 1), columns_(3 * W),
        padded_(W + 2 * radius_) {}

  void smooth(int64_t y, double* planes) {
    smooth_columns(y);
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t x = 0; x < W_; ++x) padded_[radius_ + x] = columns_[3 * x + c];
      for (int64_t i = 1; i <= radius_; ++i) {
        padded_[radius_ - i] = padded_[radius_ + reflect(-i, W_)];
        padded_[radius_ + W_ - 1 + i] = padded_[radius_ + reflect(W_ - 1 + i, W_)];
      }
      smooth_plane(planes + c * W_);
    }
  }

 private:
  // Along the image's columns, for all pixels of row y, channels as they lie in the image.
  void smooth_columns(int64_t y) {
    double* __restrict to = columns_.data();
    const uint8_t* row = image_ + y * 3 * W_;
    const double centre = weights_[0] / 255;
    for (int64_t k = 0; k < 3 * W_; ++k) to[k] = centre * row[k];
    for (int64_t i = 1; i <= radius_; ++i) {
      const uint8_t* above = image_ + reflect(y - i, H_) * 3 * W_;
      const uint8_t* below = image_ + reflect(y + i, H_) * 3 * W_;
      const double weight = weights_[i] / 255;
      for (int64_t k = 0; k < 3 * W_; ++k) to[k] += weight * (above[k] + below[k]);
    }
  }

  // Along the row, for one channel.
  void smooth_plane(double* __restrict to) const {
    const double* from = padded_.data() + radius_;
    for (int64_t x = 0; x < W_; ++x) to[x] = weights_[0] * from[x];
    for (int64_t i = 1; i <= radius_; ++i) {
      const double weight = weights_[i];
      for (int64_t x = 0; x < W_; ++x) to[x] += weight * (from[x - i] + from[x + i]);
    }
  }

  const uint8_t* image_;
  int64_t H_, W_;
  std::vector<double> weights_;
  int64_t radius_;
  std::vector<double> columns_, padded_;
};

// Edges from `count` pixels side by side, the first of them `pixel`, to as many others; both are given as three planes of
// W. No branches and no aliases: this becomes vector instructions.
void make_edges(const double* from, const double* to, int64_t W, int64_t count, int64_t pixel, Direction direction,
                Edge* __restrict edges) {
  // In the low bits of the sum of a cost and this lies the whole number nearest to the cost.
  constexpr double whole = int64_t{1} << 52;
  const Edge first = static_cast<Edge>(pixel) * kDirections + direction;
  for (int64_t x = 0; x < count; ++x) {
    const double red = from[x] - to[x], green = from[W + x] - to[W + x], blue = from[2 * W + x] - to[2 * W + x];
    const double r = red * red, g = green * green, b = blue * blue;
    // The largest last, so that the sum does not depend on the order of the channels.
    const double low = r < g ? r : g, high = r < g ? g : r;
    const double middle = high < b ? high : b, largest = high < b ? b : high;
    const double cost = std::sqrt(low + middle + largest) * kUnit + whole;
    Edge bits;
    std::memcpy(&bits, &cost, sizeof bits);
    edges[x] = bits << 32 | (first + static_cast<Edge>(x) * kDirections);
  }
}

// All edges: those to the right, down, down to the right and down to the left, each in the order of the rows.
void make_all_edges(const uint8_t* image, int64_t H, int64_t W, double sigma, Edge* edges) {
  Smoother smoother(image, H, W, sigma);
  std::vector<double> row(3 * W), next(3 * W);
  Edge* right = edges;
  Edge* down = right + H * (W - 1);
  Edge* down_right = down + (H - 1) * W;
  Edge* down_left = down_right + (H - 1) * (W - 1);
  smoother.smooth(0, row.data());
  for (int64_t y = 0; y < H; ++y) {
    make_edges(row.data(), row.data() + 1, W, W - 1, y * W, kRight, right + y * (W - 1));
    if (y + 1 == H) break;
    smoother.smooth(y + 1, next.data());
    make_edges(row.data(), next.data(), W, W, y * W, kDown, down + y * W);
    make_edges(row.data(), next.data() + 1, W, W - 1, y * W, kDownRight, down_right + y * (W - 1));
    make_edges(row.data() + 1, next.data(), W, W - 1, y * W + 1, kDownLeft, down_left + y * (W - 1));
    row.swap(next);
  }
}

// Sorts by cost and keeps the order of equals: a radix sort from the lowest byte to the highest. Larger digits make fewer
// passes and are slower, for then the places that are written to do not stay in the first cache. `other` has as much room;
// what it holds afterwards means nothing.
void sort(Edge* edges, Edge* other, int64_t count) {
  constexpr int passes = 4;
  const auto digit = [](Edge edge, int pass) { return edge >> (32 + 8 * pass) & 0xff; };
  std::array<std::array<int64_t, 256>, passes> places{};
  for (int64_t e = 0; e < count; ++e) {
    for (int pass = 0; pass < passes; ++pass) ++places[pass][digit(edges[e], pass)];
  }
  Edge *from = edges, *to = other;
  for (int pass = 0; pass < passes; ++pass) {  // an even number: the last one writes to where the first one read
    int64_t start = 0;
    for (int64_t& place : places[pass]) start += std::exchange(place, start);
    for (int64_t e = 0; e < count; ++e) to[places[pass][digit(from[e], pass)]++] = from[e];
    std::swap(from, to);
  }
}

// Segments as trees of pixels, each named after the pixel at its root.
class Segments {
 public:
  Segments(int64_t pixels, double scale)
      : scale_(scale / 255 * kUnit), parents_(pixels), segments_(pixels, Segment{1, limit(0, 1)}) {
    std::iota(parents_.begin(), parents_.end(), 0);
  }

  // The segment of a pixel. On the way every other pixel moves up to its parent's parent, so that paths stay short.
  int32_t find(int32_t pixel) {
    while (parents_[pixel] != pixel) {
      parents_[pixel] = parents_[parents_[pixel]];
      pixel = parents_[pixel];
    }
    return pixel;
  }

  int32_t size(int32_t segment) const { return segments_[segment].size; }

  // The cost from which on the segment does not merge: its internal difference, and more the smaller it is.
  uint32_t limit(int32_t segment) const { return segments_[segment].limit; }

  // `cost` becomes the internal difference of the two segments' union.
  void merge(int32_t first, int32_t second, uint32_t cost) {
    if (size(first) < size(second)) std::swap(first, second);
    parents_[second] = first;
    segments_[first].size += size(second);
    segments_[first].limit = limit(cost, size(first));
  }

 private:
  struct Segment {
    int32_t size;
    uint32_t limit;
  };

  // Rounded up: a whole number is below the result when it is below what was rounded.
  uint32_t limit(uint32_t cost, int32_t size) const {
    return static_cast<uint32_t>(std::min(std::ceil(cost + scale_ / size), kLargestCost));
  }

  double scale_;
  std::vector<int32_t> parents_;
  std::vector<Segment> segments_;
};

// Merges along the edges in order wherever merges(segment, segment, cost) says so. Edges between two segments that did not
// merge move to the front; returns how many they are.
template <typename Merges>
int64_t walk(Edge* edges, int64_t count, int64_t W, Segments& segments, const Merges& merges) {
  const int32_t width = static_cast<int32_t>(W);
  const int32_t steps[kDirections] = {1, width, width + 1, width - 1};
  int64_t left = 0;
  for (int64_t e = 0; e < count; ++e) {
    const uint32_t place = static_cast<uint32_t>(edges[e]), cost = edges[e] >> 32;
    const int32_t pixel = place / kDirections;
    const int32_t first = segments.find(pixel), second = segments.find(pixel + steps[place % kDirections]);
    if (first == second) continue;
    if (merges(first, second, cost)) {
      segments.merge(first, second, cost);
    } else {
      edges[left++] = edges[e];
    }
  }
  return left;
}

// Numbers the segments in the order in which their first pixels lie in the image.
void relabel(Segments& segments, int64_t pixels, int32_t* labels) {
  std::vector<int32_t> numbers(pixels, -1);
  int32_t count = 0;
  for (int32_t pixel = 0; pixel < pixels; ++pixel) {
    int32_t& number = numbers[segments.find(pixel)];
    if (number < 0) number = count++;
    labels[pixel] = number;
  }
}

// Merges along sorted edges, which it changes, and numbers what came out.
void segment(Edge* edges, int64_t count, int64_t W, int64_t pixels, double scale, int64_t min_size, int32_t* labels) {
  Segments segments(pixels, scale);
  count = walk(edges, count, W, segments, [&](int32_t first, int32_t second, uint32_t cost) {
    return cost < std::min(segments.limit(first), segments.limit(second));
  });
  walk(edges, count, W, segments, [&](int32_t first, int32_t second, uint32_t) {
    return std::min(segments.size(first), segments.size(second)) < min_size;
  });
  relabel(segments, pixels, labels);
}

Tensor felzenszwalb(const Tensor& image_, at::ArrayRef<double> scales, double sigma, at::IntArrayRef min_sizes) {
  TORCH_CHECK(image_.dim() == 3 && image_.size(2) == 3 && image_.scalar_type() == at::kByte && image_.numel() > 0,
              "felzenszwalb: image must be (H, W, 3) uint8, not empty");
  const int64_t H = image_.size(0), W = image_.size(1), pixels = H * W;
  const int64_t sizes = static_cast<int64_t>(scales.size());
  TORCH_CHECK(pixels <= kMostPixels, "felzenszwalb: more than ", kMostPixels, " pixels");
  TORCH_CHECK(scales.size() == min_sizes.size(), "felzenszwalb: as many minimum sizes as scales expected");
  TORCH_CHECK(sigma >= 0 && std::all_of(scales.begin(), scales.end(), [](double scale) { return scale > 0; }),
              "felzenszwalb: scales must be positive, sigma not negative");
  const Tensor image = image_.contiguous();
  const int64_t count = H * (W - 1) + (H - 1) * W + 2 * (H - 1) * (W - 1);
  // Room for the sort with it: of two such blocks the system would take back the memory every time, and clear it anew.
  const std::unique_ptr<Edge[]> edges(new Edge[2 * count]);
  Edge* const room = edges.get() + count;
  make_all_edges(image.const_data_ptr<uint8_t>(), H, W, sigma, edges.get());
  sort(edges.get(), room, count);
  Tensor labels = at::empty({sizes, H, W}, image.options().dtype(at::kInt));
  int32_t* const first = labels.mutable_data_ptr<int32_t>();
  for (int64_t i = 0; i < sizes; ++i) {
    const bool last = i + 1 == sizes;
    if (!last) std::copy(edges.get(), edges.get() + count, room);
    segment(last ? edges.get() : room, count, W, pixels, scales[i], min_sizes[i], first + i * pixels);
  }
  return labels;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(unsupfss, m) {
  m.def("felzenszwalb(Tensor image, float[] scales, float sigma, int[] min_sizes) -> Tensor");
}

TORCH_LIBRARY_IMPL(unsupfss, CPU, m) { m.impl("felzenszwalb", &felzenszwalb); }
