// Deformable attention on a GPU (docs/method.md, section 7): the kernels, and how they are launched.
//
// A bag is one head of one query: the weighted sum of four rows of `value` for each of its sampling points. A block
// takes a run of bags of one image. All its threads first find the rows and their shares, a chunk of points at a time,
// and put them into shared memory; then a group of lanes for each bag reads the rows, 16 bytes a lane where D allows.
// Neighbouring queries sample neighbouring pixels, so that most rows come from the cache.
//
// No ATen here: tests/model/cuda_emulation.cpp compiles this file for a CPU.
//
// Letters: N batch, S = sum of all levels' h * w, M heads, D channels of a head, L levels, P points, Q queries.

#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

extern __shared__ __align__(16) unsigned char shared_memory[];

namespace deform_attn_cuda {

// What values of type T are summed in, and the type of locations and weights.
template <typename T>
using Accumulate = std::conditional_t<std::is_same<T, double>::value, double, float>;

struct Sizes {
  int32_t N, S, M, D, Q, L, P;
};

template <typename A>
struct alignas(16) Four {
  A at[4];
};

// Channels that a lane moves at once.
template <typename T, int Width>
struct alignas(sizeof(T) * Width) Pack {
  T at[Width];
};

// ---- The launch ----

// Small blocks: a block waits for the slowest of its bags twice.
constexpr int32_t kThreads = 128;
// At least: 64 registers a thread, enough for several rows on their way.
constexpr int32_t kBlocksPerMultiprocessor = 8;
// Leaves room for enough blocks on a multiprocessor. Points beyond it are taken in several chunks.
constexpr int64_t kSharedBytes = 18 * 1024;

// What a sampling point takes in shared memory: rows and shares, and backward the dot products too.
template <typename A>
constexpr int64_t kForwardBytes = sizeof(Four<int32_t>) + sizeof(Four<A>);
template <typename A>
constexpr int64_t kBackwardBytes = sizeof(Four<int32_t>) + 2 * sizeof(Four<A>);

struct Plan {
  int32_t lanes;   // of a bag: a power of two
  int32_t bags;    // of a block
  int32_t passes;  // over the points, until the lanes have read all channels
  int32_t chunk;   // points of each bag that shared memory holds at once
  int32_t stride;  // from a bag's points to the next one's; odd, so that several bags' points lie in different banks
  int32_t blocks_per_image;
  int64_t blocks;
  int64_t shared_bytes;
};

// The number of channels that a lane can read at once: rows must divide into it and lie at multiples of it.
template <typename T>
int pack_width(int64_t D, const void* rows, const void* more_rows) {
  const auto addresses = reinterpret_cast<uintptr_t>(rows) | reinterpret_cast<uintptr_t>(more_rows);
  int width = 16 / sizeof(T);
  while (D % width != 0 || addresses % (width * sizeof(T)) != 0) width /= 2;
  return width;
}

// Calls body(width as a compile-time constant).
template <typename T, typename Body>
void for_width(int width, const Body& body) {
  if constexpr (sizeof(T) <= 2) {
    if (width == 8) body(std::integral_constant<int, 8>());
  }
  if constexpr (sizeof(T) <= 4) {
    if (width == 4) body(std::integral_constant<int, 4>());
  }
  if (width == 2) body(std::integral_constant<int, 2>());
  if (width == 1) body(std::integral_constant<int, 1>());
}

inline Plan make_plan(const Sizes& sizes, int width, int64_t bytes_per_point) {
  const int64_t packs = sizes.D / width;
  // As many lanes as possible that are busy at least three quarters of the time.
  int64_t lanes = 32;
  while (4 * packs < 3 * ((packs + lanes - 1) / lanes * lanes)) lanes /= 2;
  const int64_t bags = kThreads / lanes, points = int64_t{sizes.L} * sizes.P;
  const int64_t room = std::max<int64_t>(kSharedBytes / (bags * bytes_per_point), 1);
  const int64_t chunk = std::min(points, (room - 1) | 1);
  const int64_t blocks_per_image = (int64_t{sizes.Q} * sizes.M + bags - 1) / bags;
  Plan plan;
  plan.lanes = static_cast<int32_t>(lanes);
  plan.bags = static_cast<int32_t>(bags);
  plan.passes = static_cast<int32_t>((packs + lanes - 1) / lanes);
  plan.chunk = static_cast<int32_t>(chunk);
  plan.stride = static_cast<int32_t>(chunk | 1);
  plan.blocks_per_image = static_cast<int32_t>(blocks_per_image);
  plan.blocks = sizes.N * blocks_per_image;
  plan.shared_bytes = bags * plan.stride * bytes_per_point;
  return plan;
}

// ---- Sampling points ----

// Not contracted to multiply-adds: a location in the middle of a pixel must come out there, as in PyTorch, or its
// gradient is that of the neighbour on the other side.
__device__ inline float multiply(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double multiply(double a, double b) { return __dmul_rn(a, b); }

// Along one axis of a map: the pixels below and above a location, moved inside the map, their shares of the sample, 0
// for those moved, and how the shares change with the location.
template <typename A>
struct Axis {
  int32_t pixel[2];
  A share[2];
  A slope[2];
};

// A location that is not a number gives shares that are none, of the first pixel.
template <typename A>
__device__ Axis<A> find_pixels(A location, int32_t size) {
  const A length = static_cast<A>(size);
  const A position = multiply(location, length) - static_cast<A>(0.5);
  const A lower = floor(position);
  const A above = position - lower;
  // Far outside is as good as just outside, and fits an integer.
  const A near = lower > -2 ? lower : A(-2);
  const int32_t below = static_cast<int32_t>(near < length ? near : length);
  const int32_t last = size - 1;
  const A in_below = below >= 0 && below <= last ? 1 : 0;
  const A in_above = below >= -1 && below < last ? 1 : 0;
  Axis<A> axis;
  axis.pixel[0] = below < 0 ? 0 : below < last ? below : last;
  axis.pixel[1] = below < 0 ? 0 : below < last ? below + 1 : last;
  axis.share[0] = (1 - above) * in_below;
  axis.share[1] = above * in_above;
  axis.slope[0] = -length * in_below;
  axis.slope[1] = length * in_above;
  return axis;
}

// A sampling point on its level's map, which begins at pixel `start` of S.
template <typename A>
struct Sample {
  int64_t start;
  int32_t width;
  Axis<A> x, y;
};

// location: (x, y). Shapes on a GPU have not been seen by the host: sides are held between 1 and S.
template <typename A>
__device__ Sample<A> find_sample(const Sizes& sizes, const int64_t* shapes, int32_t level, const A* location) {
  Sample<A> sample;
  const int64_t S = sizes.S;
  int64_t height = 0, width = 0;
  sample.start = 0;
  for (int64_t l = 0; l <= level; ++l) {
    sample.start += height * width;
    if (sample.start > S) sample.start = S;
    height = shapes[2 * l] < 1 ? 1 : shapes[2 * l] < S ? shapes[2 * l] : S;
    width = shapes[2 * l + 1] < 1 ? 1 : shapes[2 * l + 1] < S ? shapes[2 * l + 1] : S;
  }
  sample.width = static_cast<int32_t>(width);
  sample.x = find_pixels(location[0], static_cast<int32_t>(width));
  sample.y = find_pixels(location[1], static_cast<int32_t>(height));
  return sample;
}

// The block's part of the work and of shared memory.
template <typename A>
struct Work {
  int32_t image;
  int64_t first_bag;  // of all N * Q * M
  int32_t first_head;
  int32_t bags;  // fewer than planned at the end of an image
  Four<int32_t>* rows;
  Four<A>* shares;
  Four<A>* dots;

  __device__ Work(const Sizes& sizes, const Plan& plan) {
    image = static_cast<int32_t>(blockIdx.x) / plan.blocks_per_image;
    const int32_t first = static_cast<int32_t>(blockIdx.x) % plan.blocks_per_image * plan.bags;
    const int32_t rest = sizes.Q * sizes.M - first;
    first_bag = int64_t{image} * sizes.Q * sizes.M + first;
    first_head = first % sizes.M;
    bags = rest < plan.bags ? rest : plan.bags;
    rows = reinterpret_cast<Four<int32_t>*>(shared_memory);
    shares = reinterpret_cast<Four<A>*>(rows + plan.bags * plan.stride);
    dots = shares + plan.bags * plan.stride;
  }

  // Where the values of one of the block's bags begin in (N, S, M, D); its rows are counted from there.
  __device__ int64_t begin(const Sizes& sizes, int32_t bag) const {
    return (int64_t{image} * sizes.S * sizes.M + (first_head + bag) % sizes.M) * sizes.D;
  }
};

// Fills rows and shares for `count` points of all the block's bags.
template <typename A>
__device__ void find_corners(const Sizes& sizes, const Plan& plan, const Work<A>& work, int32_t first_point,
                             int32_t count, const int64_t* shapes, const A* locations, const A* weights) {
  for (int32_t i = threadIdx.x; i < work.bags * count; i += blockDim.x) {
    const int32_t bag = i / count, k = i % count;
    const int64_t point = (work.first_bag + bag) * sizes.L * sizes.P + first_point + k;
    const auto sample = find_sample(sizes, shapes, (first_point + k) / sizes.P, locations + 2 * point);
    const A weight = weights[point];
    Four<int32_t> rows;
    Four<A> shares;
    for (int c = 0; c < 4; ++c) {
      const int64_t row = sample.start + int64_t{sample.y.pixel[c / 2]} * sample.width + sample.x.pixel[c % 2];
      rows.at[c] = static_cast<int32_t>(row < sizes.S ? row : sizes.S - 1) * sizes.M * sizes.D;
      shares.at[c] = weight * (sample.y.share[c / 2] * sample.x.share[c % 2]);
    }
    work.rows[bag * plan.stride + k] = rows;
    work.shares[bag * plan.stride + k] = shares;
  }
}

// ---- Rows ----

template <int Width, typename T>
__device__ Pack<T, Width> load(const T* from) {
  return *reinterpret_cast<const Pack<T, Width>*>(from);
}

template <typename T, int Width>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    forward(Sizes sizes, Plan plan, const T* __restrict__ value, const int64_t* __restrict__ shapes,
            const Accumulate<T>* __restrict__ locations, const Accumulate<T>* __restrict__ weights,
            T* __restrict__ output) {
  using A = Accumulate<T>;
  const Work<A> work(sizes, plan);
  const int32_t bag = threadIdx.x / plan.lanes, lane = threadIdx.x % plan.lanes, points = sizes.L * sizes.P;
  const T* values = value + work.begin(sizes, bag);
  for (int32_t pass = 0; pass < plan.passes; ++pass) {
    const int32_t channel = (pass * plan.lanes + lane) * Width;
    const bool busy = bag < work.bags && channel < sizes.D;
    A sum[Width] = {};
    for (int32_t first = 0; first < points; first += plan.chunk) {
      const int32_t count = points - first < plan.chunk ? points - first : plan.chunk;
      if (pass == 0 || plan.chunk < points) {
        __syncthreads();  // the last chunk has been read
        find_corners(sizes, plan, work, first, count, shapes, locations, weights);
        __syncthreads();
      }
      if (!busy) continue;
#pragma unroll 2
      for (int32_t k = bag * plan.stride; k < bag * plan.stride + count; ++k) {
        const Four<int32_t> rows = work.rows[k];
        const Four<A> shares = work.shares[k];
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const auto row = load<Width>(values + rows.at[c] + channel);
#pragma unroll
          for (int d = 0; d < Width; ++d) sum[d] += shares.at[c] * static_cast<A>(row.at[d]);
        }
      }
    }
    if (!busy) continue;
    Pack<T, Width> pack;
#pragma unroll
    for (int d = 0; d < Width; ++d) pack.at[d] = static_cast<T>(sum[d]);
    *reinterpret_cast<Pack<T, Width>*>(output + (work.first_bag + bag) * sizes.D + channel) = pack;
  }
}

// Adds share * grad to a row that other threads add to as well.
template <typename A, int Width>
__device__ void add_to_row(A* row, A share, const A (&grad)[Width]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (std::is_same<A, float>::value && Width % 4 == 0) {
#pragma unroll
    for (int d = 0; d < Width; d += 4) {
      atomicAdd(reinterpret_cast<float4*>(row + d),
                make_float4(share * grad[d], share * grad[d + 1], share * grad[d + 2], share * grad[d + 3]));
    }
  } else
#endif
  {
#pragma unroll
    for (int d = 0; d < Width; ++d) atomicAdd(row + d, share * grad[d]);
  }
}

// grad_value: zeros of type A, to which the gradient is added; null if nobody wants it.
template <typename T, int Width>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    backward(Sizes sizes, Plan plan, const T* __restrict__ grad, const T* __restrict__ value,
             const int64_t* __restrict__ shapes, const Accumulate<T>* __restrict__ locations,
             const Accumulate<T>* __restrict__ weights, Accumulate<T>* __restrict__ grad_value,
             Accumulate<T>* __restrict__ grad_locations, Accumulate<T>* __restrict__ grad_weights) {
  using A = Accumulate<T>;
  const Work<A> work(sizes, plan);
  const int32_t bag = threadIdx.x / plan.lanes, lane = threadIdx.x % plan.lanes, points = sizes.L * sizes.P;
  const int64_t begin = work.begin(sizes, bag);
  for (int32_t first = 0; first < points; first += plan.chunk) {
    const int32_t count = points - first < plan.chunk ? points - first : plan.chunk;
    find_corners(sizes, plan, work, first, count, shapes, locations, weights);
    __syncthreads();
    for (int32_t pass = 0; pass < plan.passes; ++pass) {
      const int32_t channel = (pass * plan.lanes + lane) * Width;
      const bool busy = bag < work.bags && channel < sizes.D;
      A along_grad[Width] = {};
      if (busy) {
        const auto pack = load<Width>(grad + (work.first_bag + bag) * sizes.D + channel);
#pragma unroll
        for (int d = 0; d < Width; ++d) along_grad[d] = static_cast<A>(pack.at[d]);
      }
      // Idle lanes come along: the shuffles below are the whole warp's.
      for (int32_t k = bag * plan.stride; k < bag * plan.stride + count; ++k) {
        Four<A> dots = {};  // the output's gradient times each corner's row
        if (busy) {
          const Four<int32_t> rows = work.rows[k];
          const Four<A> shares = work.shares[k];
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const auto row = load<Width>(value + begin + rows.at[c] + channel);
#pragma unroll
            for (int d = 0; d < Width; ++d) dots.at[c] += along_grad[d] * static_cast<A>(row.at[d]);
          }
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            // Corners outside would all crowd the pixels at the map's edge, to add nothing.
            if (grad_value == nullptr || shares.at[c] == 0) continue;
            add_to_row(grad_value + begin + rows.at[c] + channel, shares.at[c], along_grad);
          }
        }
        for (int32_t distance = plan.lanes / 2; distance > 0; distance /= 2) {
#pragma unroll
          for (int c = 0; c < 4; ++c) dots.at[c] += __shfl_xor_sync(0xffffffffu, dots.at[c], distance);
        }
        if (lane == 0 && bag < work.bags) {
          if (pass > 0) {
            for (int c = 0; c < 4; ++c) dots.at[c] += work.dots[k].at[c];
          }
          work.dots[k] = dots;
        }
      }
    }
    __syncthreads();
    for (int32_t i = threadIdx.x; i < work.bags * count; i += blockDim.x) {
      const int32_t of_block = i / count, k = i % count;
      const int64_t point = (work.first_bag + of_block) * points + first + k;
      const auto sample = find_sample(sizes, shapes, (first + k) / sizes.P, locations + 2 * point);
      const Four<A> dots = work.dots[of_block * plan.stride + k];
      const A weight = weights[point];
      A by_weight = 0, by_x = 0, by_y = 0;
      for (int c = 0; c < 4; ++c) {
        by_weight += sample.y.share[c / 2] * sample.x.share[c % 2] * dots.at[c];
        by_x += sample.y.share[c / 2] * sample.x.slope[c % 2] * dots.at[c];
        by_y += sample.y.slope[c / 2] * sample.x.share[c % 2] * dots.at[c];
      }
      grad_weights[point] = by_weight;
      grad_locations[2 * point] = weight * by_x;
      grad_locations[2 * point + 1] = weight * by_y;
    }
    // The next chunk's rows and shares may be written while others still read dots; its dots wait for the barrier.
  }
}

}  // namespace deform_attn_cuda
