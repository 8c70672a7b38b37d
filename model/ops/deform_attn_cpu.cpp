// Deformable attention on a CPU (docs/method.md, section 7): the schema, forward and backward.
//
// One task is one head of one image. It copies its values into a dense table of the accumulation type, small enough for
// the cache, which all queries then read; backward adds its gradients up in a second one. No two tasks write to the same
// place, so there are no atomics, and the result has the same bits whatever the number of threads.
//
// Letters: N batch, S = sum of all levels' h * w, M heads, D channels of a head, L levels, P points, Q queries.

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>
#include <vector>

namespace {

using at::Tensor;

struct Sizes {
  int64_t N, S, M, D, Q, L, P;
};

// Queries whose sampling points are found at once: enough for long vector loops, few enough for the first cache.
constexpr int64_t kBlock = 64;

// Along one axis of a map, for many sampling points: the pixels below and above each, moved inside the map, their shares
// of the sample, 0 for those moved, and how the shares change with the location.
template <typename A>
struct Axis {
  std::vector<A> location;
  std::vector<int32_t> pixel[2];
  std::vector<A> share[2], slope[2];

  explicit Axis(int64_t points) : location(points) {
    for (int i : {0, 1}) {
      pixel[i].resize(points);
      share[i].resize(points);
      slope[i].resize(points);
    }
  }

  // Points first to first + count of a map of `size` pixels. No branches and no aliases: this becomes vector
  // instructions. A location that is not a number gives shares that are none.
  void find(int64_t first, int64_t count, int32_t size) {
    const A* __restrict from = location.data() + first;
    int32_t* __restrict pixel0 = pixel[0].data() + first;
    int32_t* __restrict pixel1 = pixel[1].data() + first;
    A* __restrict share0 = share[0].data() + first;
    A* __restrict share1 = share[1].data() + first;
    A* __restrict slope0 = slope[0].data() + first;
    A* __restrict slope1 = slope[1].data() + first;
    const A length = static_cast<A>(size);
    for (int64_t k = 0; k < count; ++k) {
      const A position = from[k] * length - static_cast<A>(0.5);
      const A floor = std::floor(position);
      const A above = position - floor;
      // Far outside is as good as just outside, and fits an integer.
      const A near = floor > -2 ? floor : A(-2);
      const int32_t below = static_cast<int32_t>(near < length ? near : length);
      const A in_below = below >= 0 && below < size ? 1 : 0;
      const A in_above = below >= -1 && below < size - 1 ? 1 : 0;
      const int32_t last = size - 1, low = below > 0 ? below : 0, high = below > -1 ? below + 1 : 0;
      pixel0[k] = low < last ? low : last;
      pixel1[k] = high < last ? high : last;
      share0[k] = (1 - above) * in_below;
      share1[k] = above * in_above;
      slope0[k] = -length * in_below;
      slope1[k] = length * in_above;
    }
  }
};

// All sampling points of one head for a block of queries, (L, kBlock, P). A corner's row is its pixel among the S.
template <typename A>
struct Samples {
  Axis<A> x, y;
  std::vector<int32_t> row[4];
  std::vector<A> share[4];

  explicit Samples(int64_t points) : x(kBlock * points), y(kBlock * points) {
    for (int c = 0; c < 4; ++c) {
      row[c].resize(kBlock * points);
      share[c].resize(kBlock * points);
    }
  }

  // locations: those of the block's first query; the next query's lie behind those of the other heads.
  void find(const Sizes& sizes, const int64_t* shapes, const A* locations, int64_t queries) {
    int32_t start = 0;
    for (int64_t l = 0; l < sizes.L; ++l) {
      const int64_t first = l * kBlock * sizes.P, count = queries * sizes.P;
      const int32_t height = static_cast<int32_t>(shapes[2 * l]), width = static_cast<int32_t>(shapes[2 * l + 1]);
      for (int64_t q = 0; q < queries; ++q) {
        const A* of_query = locations + (q * sizes.M * sizes.L + l) * sizes.P * 2;
        for (int64_t p = 0; p < sizes.P; ++p) {
          x.location[first + q * sizes.P + p] = of_query[2 * p];
          y.location[first + q * sizes.P + p] = of_query[2 * p + 1];
        }
      }
      x.find(first, count, width);
      y.find(first, count, height);
      for (int c = 0; c < 4; ++c) {
        for (int64_t k = first; k < first + count; ++k) {
          row[c][k] = start + y.pixel[c / 2][k] * width + x.pixel[c % 2][k];
          share[c][k] = y.share[c / 2][k] * x.share[c % 2][k];
        }
      }
      start += height * width;
    }
  }
};

// Calls body(first channel, number of vectors, channels in the last one) for pieces that make up D. The number is a
// compile-time constant, so that the body keeps its sums in registers.
template <typename A, typename Body>
void for_channels(int64_t D, const Body& body) {
  constexpr int64_t width = at::vec::Vectorized<A>::size();
  int64_t d = 0;
  for (; d + 4 * width <= D; d += 4 * width) body(d, std::integral_constant<int, 4>(), width);
  for (; d + 2 * width <= D; d += 2 * width) body(d, std::integral_constant<int, 2>(), width);
  for (; d + width <= D; d += width) body(d, std::integral_constant<int, 1>(), width);
  if (d < D) body(d, std::integral_constant<int, 1>(), D - d);
}

template <typename A>
at::vec::Vectorized<A> load(const A* from, int64_t count) {
  using Vec = at::vec::Vectorized<A>;
  return count == Vec::size() ? Vec::loadu(from) : Vec::loadu(from, count);
}

template <typename A>
void store(const at::vec::Vectorized<A>& vector, A* to, int64_t count) {
  count == at::vec::Vectorized<A>::size() ? vector.store(to) : vector.store(to, static_cast<int>(count));
}

// One head of one image out of (S, M, D) as a dense (S, D) table.
template <typename T, typename A>
void copy_head(const Sizes& sizes, const T* value, A* table) {
  for (int64_t s = 0; s < sizes.S; ++s) {
    for (int64_t d = 0; d < sizes.D; ++d) table[s * sizes.D + d] = static_cast<A>(value[s * sizes.M * sizes.D + d]);
  }
}

template <typename T, typename A>
void forward_head(const Sizes& sizes, const int64_t* shapes, const A* table, const A* locations, const A* weights,
                  T* output) {
  using Vec = at::vec::Vectorized<A>;
  Samples<A> samples(sizes.L * sizes.P);
  std::vector<A> sums(sizes.D);
  for (int64_t q = 0; q < sizes.Q; ++q) {
    const int64_t first_point = q * sizes.M * sizes.L * sizes.P;
    if (q % kBlock == 0) samples.find(sizes, shapes, locations + first_point * 2, std::min(kBlock, sizes.Q - q));
    for_channels<A>(sizes.D, [&](int64_t first, auto vectors, int64_t last) {
      Vec sum[vectors];
      for (int v = 0; v < vectors; ++v) sum[v] = Vec(A(0));
      const A* weight = weights + first_point;
      for (int64_t l = 0; l < sizes.L; ++l) {
        const int64_t of_query = (l * kBlock + q % kBlock) * sizes.P;
        for (int64_t k = of_query; k < of_query + sizes.P; ++k, ++weight) {
          for (int c = 0; c < 4; ++c) {
            const A* row = table + samples.row[c][k] * sizes.D + first;
            const Vec share(*weight * samples.share[c][k]);
            for (int v = 0; v < vectors; ++v) sum[v] = at::vec::fmadd(share, load(row + v * Vec::size(), last), sum[v]);
          }
        }
      }
      for (int v = 0; v < vectors; ++v) store(sum[v], sums.data() + first + v * Vec::size(), last);
    });
    T* out = output + q * sizes.M * sizes.D;
    for (int64_t d = 0; d < sizes.D; ++d) out[d] = static_cast<T>(sums[d]);
  }
}

template <typename T, typename A>
void backward_head(const Sizes& sizes, const int64_t* shapes, const A* table, const A* locations, const A* weights,
                   const T* grad_output, A* grad_table, A* grad_locations, A* grad_weights) {
  using Vec = at::vec::Vectorized<A>;
  Samples<A> samples(sizes.L * sizes.P);
  std::vector<A> grad(sizes.D);
  for (int64_t q = 0; q < sizes.Q; ++q) {
    const int64_t first_point = q * sizes.M * sizes.L * sizes.P;
    if (q % kBlock == 0) samples.find(sizes, shapes, locations + first_point * 2, std::min(kBlock, sizes.Q - q));
    for (int64_t d = 0; d < sizes.D; ++d) grad[d] = static_cast<A>(grad_output[q * sizes.M * sizes.D + d]);
    int64_t point = first_point;
    for (int64_t l = 0; l < sizes.L; ++l) {
      const int64_t of_query = (l * kBlock + q % kBlock) * sizes.P;
      for (int64_t k = of_query; k < of_query + sizes.P; ++k, ++point) {
        const A weight = weights[point];
        A along[4] = {};  // the output's gradient times each corner's row
        for_channels<A>(sizes.D, [&](int64_t first, auto vectors, int64_t last) {
          for (int c = 0; c < 4; ++c) {
            const int64_t row = samples.row[c][k] * sizes.D + first;
            const Vec share(weight * samples.share[c][k]);
            Vec sum(A(0));
            for (int v = 0; v < vectors; ++v) {
              const int64_t d = v * Vec::size();
              const Vec g = load(grad.data() + first + d, last);
              sum = at::vec::fmadd(g, load(table + row + d, last), sum);
              store(at::vec::fmadd(share, g, load(grad_table + row + d, last)), grad_table + row + d, last);
            }
            along[c] += at::vec::vec_reduce_all<A>([](Vec a, Vec b) { return a + b; }, sum);
          }
        });
        A by_weight = 0, by_x = 0, by_y = 0;
        for (int c = 0; c < 4; ++c) {
          by_weight += samples.share[c][k] * along[c];
          by_x += samples.y.share[c / 2][k] * samples.x.slope[c % 2][k] * along[c];
          by_y += samples.y.slope[c / 2][k] * samples.x.share[c % 2][k] * along[c];
        }
        grad_weights[point] = by_weight;
        grad_locations[point * 2] = weight * by_x;
        grad_locations[point * 2 + 1] = weight * by_y;
      }
    }
  }
}

// For memory's sake only; model/ops/__init__.py has the checks that speak to a user.
Sizes check(const Tensor& value, const Tensor& shapes, const Tensor& locations, const Tensor& weights) {
  TORCH_CHECK(value.dim() == 4 && locations.dim() == 6 && weights.dim() == 5, "deform_attn: wrong number of axes");
  const Sizes sizes{value.size(0), value.size(1), value.size(2), value.size(3),
                    locations.size(1), locations.size(3), locations.size(4)};
  const auto [N, S, M, D, Q, L, P] = sizes;
  TORCH_CHECK(locations.sizes() == at::IntArrayRef({N, Q, M, L, P, 2}), "deform_attn: shape of sampling_locations");
  TORCH_CHECK(weights.sizes() == at::IntArrayRef({N, Q, M, L, P}), "deform_attn: shape of attention_weights");
  TORCH_CHECK(shapes.sizes() == at::IntArrayRef({L, 2}) && shapes.scalar_type() == at::kLong && shapes.is_cpu(),
              "deform_attn: spatial_shapes must be (L, 2) int64 on the CPU");
  const auto coordinates = at::toOpMathType(value.scalar_type());
  TORCH_CHECK(locations.scalar_type() == coordinates && weights.scalar_type() == coordinates,
              "deform_attn: locations and weights must be ", coordinates);
  int64_t pixels = 0;
  for (int64_t l = 0; l < L; ++l) {
    const int64_t height = shapes[l][0].item<int64_t>(), width = shapes[l][1].item<int64_t>();
    TORCH_CHECK(height > 0 && width > 0, "deform_attn: spatial_shapes must be positive");
    pixels += height * width;
  }
  TORCH_CHECK(S <= std::numeric_limits<int32_t>::max(), "deform_attn: more than 2^31 - 1 pixels in a map");
  TORCH_CHECK(pixels == S, "deform_attn: spatial_shapes hold ", pixels, " pixels, value has ", S);
  return sizes;
}

// Threads that can have a task, which number the tables. Within a parallel region one thread does all, whatever its own
// number, hence the remainder below.
int64_t threads(const Sizes& sizes) {
  return std::min<int64_t>(at::get_num_threads(), sizes.N * sizes.M);
}

Tensor deform_attn(const Tensor& value_, const Tensor& shapes_, const Tensor& locations_, const Tensor& weights_) {
  const Sizes sizes = check(value_, shapes_, locations_, weights_);
  const int64_t N = sizes.N, S = sizes.S, M = sizes.M, D = sizes.D, Q = sizes.Q, points = sizes.L * sizes.P;
  const Tensor value = value_.contiguous(), shapes = shapes_.contiguous();
  const Tensor locations = locations_.contiguous(), weights = weights_.contiguous();
  Tensor output = at::empty({N, Q, M * D}, value.options());
  Tensor tables = at::empty({threads(sizes), S, D}, locations.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "deform_attn", [&] {
    using A = at::opmath_type<scalar_t>;
    at::parallel_for(0, N * M, 1, [&](int64_t begin, int64_t end) {
      A* table = tables.mutable_data_ptr<A>() + at::get_thread_num() % threads(sizes) * S * D;
      for (int64_t task = begin; task < end; ++task) {
        const int64_t n = task / M, m = task % M;
        copy_head(sizes, value.const_data_ptr<scalar_t>() + (n * S * M + m) * D, table);
        forward_head(sizes, shapes.const_data_ptr<int64_t>(), table,
                     locations.const_data_ptr<A>() + (n * Q * M + m) * points * 2,
                     weights.const_data_ptr<A>() + (n * Q * M + m) * points,
                     output.mutable_data_ptr<scalar_t>() + (n * Q * M + m) * D);
      }
    });
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> deform_attn_backward(const Tensor& grad_, const Tensor& value_, const Tensor& shapes_,
                                                        const Tensor& locations_, const Tensor& weights_,
                                                        bool with_value) {
  const Sizes sizes = check(value_, shapes_, locations_, weights_);
  const int64_t N = sizes.N, S = sizes.S, M = sizes.M, D = sizes.D, Q = sizes.Q, points = sizes.L * sizes.P;
  TORCH_CHECK(grad_.sizes() == at::IntArrayRef({N, Q, M * D}) && grad_.scalar_type() == value_.scalar_type(),
              "deform_attn_backward: grad must look like the output");
  const Tensor grad = grad_.contiguous(), value = value_.contiguous(), shapes = shapes_.contiguous();
  const Tensor locations = locations_.contiguous(), weights = weights_.contiguous();
  Tensor grad_value = with_value ? at::empty_like(value) : at::empty({0}, value.options());
  Tensor grad_locations = at::empty_like(locations), grad_weights = at::empty_like(weights);
  Tensor tables = at::empty({threads(sizes), 2, S, D}, locations.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "deform_attn_backward", [&] {
    using A = at::opmath_type<scalar_t>;
    at::parallel_for(0, N * M, 1, [&](int64_t begin, int64_t end) {
      A* table = tables.mutable_data_ptr<A>() + at::get_thread_num() % threads(sizes) * 2 * S * D;
      A* grad_table = table + S * D;
      for (int64_t task = begin; task < end; ++task) {
        const int64_t n = task / M, m = task % M;
        const int64_t head = (n * S * M + m) * D, query = n * Q * M + m;
        copy_head(sizes, value.const_data_ptr<scalar_t>() + head, table);
        std::fill(grad_table, grad_table + S * D, A(0));
        backward_head(sizes, shapes.const_data_ptr<int64_t>(), table,
                      locations.const_data_ptr<A>() + query * points * 2, weights.const_data_ptr<A>() + query * points,
                      grad.const_data_ptr<scalar_t>() + query * D, grad_table,
                      grad_locations.mutable_data_ptr<A>() + query * points * 2,
                      grad_weights.mutable_data_ptr<A>() + query * points);
        if (!with_value) continue;
        scalar_t* out = grad_value.mutable_data_ptr<scalar_t>() + head;
        for (int64_t s = 0; s < S; ++s) {
          for (int64_t d = 0; d < D; ++d) out[s * M * D + d] = static_cast<scalar_t>(grad_table[s * D + d]);
        }
      }
    });
  });
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(unsupfss, m) {
  m.def("deform_attn(Tensor value, Tensor spatial_shapes, Tensor sampling_locations, Tensor attention_weights) -> Tensor");
  m.def(
      "deform_attn_backward(Tensor grad, Tensor value, Tensor spatial_shapes, Tensor sampling_locations, "
      "Tensor attention_weights, bool with_value) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(unsupfss, CPU, m) {
  m.impl("deform_attn", &deform_attn);
  m.impl("deform_attn_backward", &deform_attn_backward);
}
