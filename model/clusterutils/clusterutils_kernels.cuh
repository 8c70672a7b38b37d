// Hashing and Hamming k-means on a GPU (docs/method.md, section 6): the kernels, and how they are launched.
//
// Hashing packs a matrix product's signs into words, a warp for 32 rows. k-means runs all its iterations in one launch,
// a block for each set, with codes, centroids and counters in shared memory. Only integers are added up, so that the
// result has the same bits in any order.
//
// No ATen here: tests/model/cuda_emulation.cpp compiles this file for a CPU.
//
// Letters: N rows, G sets, L codes of the longest set, K centroids of the set with most.

#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

extern __shared__ __align__(16) unsigned char shared_memory[];

namespace clusterutils_cuda {

constexpr int32_t kWarp = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

// ---- Hashing ----

constexpr int32_t kPackThreads = 256;

inline int64_t pack_blocks(int64_t N) { return (N + kPackThreads - 1) / kPackThreads; }

// products (N, bits), thresholds (bits,) so many numbers apart; bit i of codes (N,) is products[n, i] > thresholds[i].
// The lanes of a warp are bits while it reads and rows when it writes, so that both are in order.
template <typename T>
__global__ void __launch_bounds__(kPackThreads)
    pack_bits(int64_t N, int32_t bits, const T* __restrict__ products, const T* __restrict__ thresholds,
              int64_t threshold_stride, int64_t* __restrict__ codes) {
  const int32_t lane = threadIdx.x % kWarp;
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x - lane;
  const int64_t rows = N - first < kWarp ? N - first : kWarp;
  uint64_t code = 0;
  for (int32_t begin = 0; begin < bits; begin += kWarp) {
    const int32_t bit = begin + lane;
    const T threshold = bit < bits ? thresholds[bit * threshold_stride] : T(0);
#pragma unroll 4
    for (int32_t row = 0; row < rows; ++row) {
      const bool side = bit < bits && products[(first + row) * bits + bit] > threshold;
      const uint64_t sides = __ballot_sync(kWholeWarp, side);
      if (row == lane) code |= sides << begin;
    }
  }
  if (lane < rows) codes[first + lane] = static_cast<int64_t>(code);
}

// ---- k-means ----

constexpr int32_t kMeansThreads = 1024;

struct Sizes {
  int32_t G, L, K, bits, iterations;
};

// Shared memory: centroids, as many codes as fit, then for each centroid counters of each bit's ones and of members.
struct Plan {
  int32_t cached;  // codes of a set in shared memory; more are read from global memory
  int64_t shared_bytes;
};

// What the centroids and their counters take in shared memory.
template <typename Word>
int64_t table_bytes(const Sizes& sizes) {
  return sizes.K * (sizeof(Word) + (sizes.bits + int64_t{1}) * sizeof(uint32_t));
}

// shared_limit: what a block can have, at least the table_bytes.
template <typename Word>
Plan make_plan(const Sizes& sizes, int64_t shared_limit) {
  const int64_t tables = table_bytes<Word>(sizes);
  const int64_t cached = std::min<int64_t>(sizes.L, (shared_limit - tables) / sizeof(Word));
  return {static_cast<int32_t>(cached), tables + cached * static_cast<int64_t>(sizeof(Word))};
}

__device__ inline uint32_t ones(uint32_t word) { return __popc(word); }
__device__ inline uint32_t ones(uint64_t word) { return __popcll(word); }

__device__ inline int32_t clamp(int64_t number, int32_t low, int32_t high) {
  return static_cast<int32_t>(number < low ? low : number < high ? number : high);
}

// The centroid at the smallest distance, the first of those. Distance and index share a word: K is below 2^16, or its
// counters would not fit shared memory.
template <typename Word>
__device__ int32_t nearest(Word code, const Word* centroids, int32_t used) {
  uint32_t best = ~0u;
#pragma unroll 4
  for (int32_t k = 0; k < used; ++k) {
    const uint32_t candidate = ones(static_cast<Word>(code ^ centroids[k])) << 16 | static_cast<uint32_t>(k);
    best = candidate < best ? candidate : best;
  }
  return static_cast<int32_t>(best & 0xffffu);
}

// The arguments are those of hamming_kmeans in reference.py. As there, a set without centroids uses the first
// nevertheless. Nothing here has looked at lengths and ks: they are held inside the tensors.
template <typename Word>
__global__ void __launch_bounds__(kMeansThreads)
    kmeans(Sizes sizes, Plan plan, const int64_t* __restrict__ all_codes, const int64_t* __restrict__ lengths,
           const int64_t* __restrict__ first_centroids, const int64_t* __restrict__ ks,
           int32_t* __restrict__ assignment, int32_t* __restrict__ counts, int64_t* __restrict__ final_centroids) {
  const int32_t threads = blockDim.x, thread = threadIdx.x, lane = thread % kWarp, bits = sizes.bits;
  const int64_t set = blockIdx.x;
  const int32_t length = clamp(lengths[set], 0, sizes.L), used = clamp(ks[set], 1, sizes.K);
  const Word mask = ~Word(0) >> (8 * sizeof(Word) - bits);
  const int64_t* codes = all_codes + set * sizes.L;
  assignment += set * sizes.L;
  first_centroids += set * sizes.K;
  Word* centroids = reinterpret_cast<Word*>(shared_memory);
  Word* cache = centroids + sizes.K;
  uint32_t* counters = reinterpret_cast<uint32_t*>(cache + plan.cached);  // (K, bits)
  uint32_t* members = counters + sizes.K * bits;                          // (K,)

  for (int32_t k = thread; k < sizes.K; k += threads) {
    centroids[k] = static_cast<Word>(first_centroids[k]) & mask;
    members[k] = 0;
  }
  for (int32_t i = thread; i < sizes.K * bits; i += threads) counters[i] = 0;
  for (int32_t i = thread; i < length && i < plan.cached; i += threads) cache[i] = static_cast<Word>(codes[i]) & mask;
  for (int32_t i = length + thread; i < sizes.L; i += threads) assignment[i] = -1;
  __syncthreads();

  bool settled = false;  // updates would change nothing any more
  for (int32_t iteration = 0;; ++iteration) {
    const bool last = settled || iteration >= sizes.iterations;
    for (int32_t i = thread; i < length; i += threads) {
      const Word code = i < plan.cached ? cache[i] : static_cast<Word>(codes[i]) & mask;
      const int32_t k = nearest(code, centroids, used);
      atomicAdd(members + k, 1u);
      if (last) {
        assignment[i] = k;
        continue;
      }
      // Each lane begins at another bit, and counters lie side by side: with 32 bits no two lanes meet in a bank.
      int32_t bit = lane % bits;
      for (int32_t step = 0; step < bits; ++step) {
        if (code >> bit & 1) atomicAdd(counters + k * bits + bit, 1u);
        if (++bit == bits) bit = 0;
      }
    }
    __syncthreads();
    if (last) break;
    // A warp for each centroid, a lane for each bit.
    bool changed = false;
    for (int32_t k = thread / kWarp; k < used; k += threads / kWarp) {
      const uint32_t of_centroid = members[k];
      Word majority = 0;
      for (int32_t begin = 0; begin < bits; begin += kWarp) {
        const int32_t bit = begin + lane;
        uint32_t with_bit = 0;
        if (bit < bits) {
          with_bit = counters[k * bits + bit];
          counters[k * bits + bit] = 0;
        }
        majority |= static_cast<Word>(__ballot_sync(kWholeWarp, 2 * with_bit > of_centroid)) << begin;
      }
      __syncwarp();  // all lanes have read the members
      if (lane != 0) continue;
      members[k] = 0;
      if (of_centroid == 0) continue;
      changed = changed || centroids[k] != majority;
      centroids[k] = majority;
    }
    settled = !__syncthreads_or(changed);
  }
  for (int32_t k = thread; k < sizes.K; k += threads) {
    counts[set * sizes.K + k] = static_cast<int32_t>(members[k]);
    final_centroids[set * sizes.K + k] = static_cast<int64_t>(centroids[k]);
  }
}

}  // namespace clusterutils_cuda
