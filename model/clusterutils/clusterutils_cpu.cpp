// LSH hashing and Hamming k-means on a CPU (docs/method.md, section 6): schemas and functions, sets in parallel.

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

namespace {

using at::Tensor;

// Codes whose distances are found at once: their keys stay in the first cache while all centroids pass by.
constexpr int64_t kBlock = 1024;
constexpr int64_t kGrain = 4096;

// Ones among the bits, by additions within the word: unlike the processor's own instruction, every one has it for vectors.
inline uint32_t count_ones(uint32_t word) {
  word -= (word >> 1) & 0x55555555u;
  word = (word & 0x33333333u) + ((word >> 2) & 0x33333333u);
  word = (word + (word >> 4)) & 0x0f0f0f0fu;
  word += word >> 8;
  return (word + (word >> 16)) & 0x3fu;
}

inline uint32_t count_ones(uint64_t word) {
  return count_ones(static_cast<uint32_t>(word)) + count_ones(static_cast<uint32_t>(word >> 32));
}

// Nearest centroid of each code: the smallest distance, the lowest index on a tie. Both are in one key, so that one
// minimum finds them.
template <typename Word>
void assign(const std::vector<Word>& codes, const std::vector<Word>& centroids, int32_t* assignment) {
  const int64_t L = codes.size();
  const uint32_t K = centroids.size();
  uint32_t keys[kBlock];
  for (int64_t first = 0; first < L; first += kBlock) {
    const int64_t count = std::min(kBlock, L - first);
    const Word* code = codes.data() + first;
    std::fill(keys, keys + count, std::numeric_limits<uint32_t>::max());
    for (uint32_t k = 0; k < K; ++k) {
      const Word centroid = centroids[k];
      for (int64_t i = 0; i < count; ++i) keys[i] = std::min(keys[i], count_ones(code[i] ^ centroid) * K + k);
    }
    for (int64_t i = 0; i < count; ++i) assignment[first + i] = keys[i] % K;
  }
}

template <typename Word>
void count_members(const std::vector<Word>& codes, const int32_t* assignment, std::vector<int32_t>& counts) {
  std::fill(counts.begin(), counts.end(), 0);
  for (size_t i = 0; i < codes.size(); ++i) ++counts[assignment[i]];
}

// Each centroid becomes the bitwise majority of its members, 0 on an even split; one without members stays. Returns
// whether any changed.
template <typename Word>
bool update(const std::vector<Word>& codes, const int32_t* assignment, const std::vector<int32_t>& counts,
            std::vector<Word>& centroids) {
  constexpr int width = std::numeric_limits<Word>::digits;
  std::vector<int32_t> ones(centroids.size() * width);
  for (size_t i = 0; i < codes.size(); ++i) {
    int32_t* of_centroid = ones.data() + assignment[i] * width;
    for (int b = 0; b < width; ++b) of_centroid[b] += (codes[i] >> b) & 1;
  }
  bool changed = false;
  for (size_t k = 0; k < centroids.size(); ++k) {
    if (counts[k] == 0) continue;
    Word majority = 0;
    for (int b = 0; b < width; ++b) majority |= static_cast<Word>(2 * ones[k * width + b] > counts[k]) << b;
    changed |= majority != centroids[k];
    centroids[k] = majority;
  }
  return changed;
}

// One set. The results' rows are filled as far as the set and its centroids go.
template <typename Word>
void cluster_set(const int64_t* codes, int64_t length, int64_t* centroids, int64_t k, int64_t iterations, int64_t bits,
                 int32_t* assignment, int32_t* counts) {
  const Word mask = std::numeric_limits<Word>::max() >> (std::numeric_limits<Word>::digits - bits);
  std::vector<Word> words(length), centres(k);
  std::vector<int32_t> sizes(k);
  for (int64_t i = 0; i < length; ++i) words[i] = static_cast<Word>(codes[i]) & mask;
  for (int64_t i = 0; i < k; ++i) centres[i] = static_cast<Word>(centroids[i]);
  // When no centroid has changed, none will.
  bool changed = true;
  for (int64_t t = 0; t < iterations && changed; ++t) {
    assign(words, centres, assignment);
    count_members(words, assignment, sizes);
    changed = update(words, assignment, sizes, centres);
  }
  assign(words, centres, assignment);
  count_members(words, assignment, sizes);
  std::copy(sizes.begin(), sizes.end(), counts);
  std::copy(centres.begin(), centres.end(), centroids);
}

Tensor lsh_hash(const Tensor& x, const Tensor& planes) {
  TORCH_CHECK(x.dim() == 2 && planes.dim() == 2 && planes.size(1) == x.size(1) + 1 && planes.size(0) <= 63,
              "lsh_hash: x must be (N, C), planes (at most 63, C + 1)");
  const int64_t N = x.size(0), C = x.size(1), bits = planes.size(0);
  // Autocast would compare in another type than the thresholds have.
  const c10::impl::ExcludeDispatchKeyGuard as_given(c10::autocast_dispatch_keyset);
  const Tensor products = at::mm(x, planes.narrow(1, 0, C).t()).contiguous();
  const Tensor thresholds = planes.select(1, C).contiguous();
  Tensor codes = at::empty({N}, x.options().dtype(at::kLong));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "lsh_hash", [&] {
    const scalar_t* product = products.const_data_ptr<scalar_t>();
    const scalar_t* threshold = thresholds.const_data_ptr<scalar_t>();
    int64_t* code = codes.mutable_data_ptr<int64_t>();
    at::parallel_for(0, N, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        int64_t sides = 0;
        for (int64_t b = 0; b < bits; ++b) sides |= int64_t{product[n * bits + b] > threshold[b]} << b;
        code[n] = sides;
      }
    });
  });
  return codes;
}

std::tuple<Tensor, Tensor, Tensor> hamming_kmeans(const Tensor& codes_, const Tensor& lengths_, const Tensor& centroids_,
                                                  const Tensor& ks_, int64_t iterations, int64_t bits) {
  TORCH_CHECK(codes_.dim() == 2 && centroids_.dim() == 2 && codes_.size(0) == centroids_.size(0),
              "hamming_kmeans: codes must be (G, L), centroids (G, K)");
  const int64_t G = codes_.size(0), L = codes_.size(1), K = centroids_.size(1);
  TORCH_CHECK(lengths_.numel() == G && ks_.numel() == G, "hamming_kmeans: lengths and ks must be (G,)");
  TORCH_CHECK(bits >= 1 && bits <= 63 && K < (1 << 25), "hamming_kmeans: 1 to 63 bits, fewer than 2^25 centroids");
  const Tensor codes = codes_.contiguous(), lengths = lengths_.contiguous(), ks = ks_.contiguous();
  Tensor centroids = centroids_.bitwise_and((int64_t{1} << bits) - 1).contiguous();
  Tensor assignment = at::empty({G, L}, codes.options().dtype(at::kInt)).fill_(-1);
  Tensor counts = at::zeros({G, K}, codes.options().dtype(at::kInt));
  const int64_t* length = lengths.const_data_ptr<int64_t>();
  const int64_t* k = ks.const_data_ptr<int64_t>();
  for (int64_t g = 0; g < G; ++g) {
    TORCH_CHECK(0 <= length[g] && length[g] <= L, "hamming_kmeans: lengths must be 0 to ", L);
    TORCH_CHECK(1 <= k[g] && k[g] <= K, "hamming_kmeans: ks must be 1 to ", K);
  }
  const int64_t* code = codes.const_data_ptr<int64_t>();
  int64_t* centroid = centroids.mutable_data_ptr<int64_t>();
  int32_t* of_code = assignment.mutable_data_ptr<int32_t>();
  int32_t* of_centroid = counts.mutable_data_ptr<int32_t>();
  at::parallel_for(0, G, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const auto cluster = bits <= 32 ? &cluster_set<uint32_t> : &cluster_set<uint64_t>;
      cluster(code + g * L, length[g], centroid + g * K, k[g], iterations, bits, of_code + g * L, of_centroid + g * K);
    }
  });
  return {assignment, counts, centroids};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(unsupfss, m) {
  m.def("lsh_hash(Tensor x, Tensor planes) -> Tensor");
  m.def(
      "hamming_kmeans(Tensor codes, Tensor lengths, Tensor centroids, Tensor ks, int iterations, int bits) "
      "-> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(unsupfss, CPU, m) {
  m.impl("lsh_hash", &lsh_hash);
  m.impl("hamming_kmeans", &hamming_kmeans);
}
