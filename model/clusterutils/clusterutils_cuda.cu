// Hashing and Hamming k-means on a GPU (docs/method.md, section 6). clusterutils_cpu.cpp has the schema.

#include "clusterutils_kernels.cuh"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cstdint>
#include <limits>
#include <tuple>

namespace {

using at::Tensor;
using namespace clusterutils_cuda;

// For memory's sake only; model/clusterutils/__init__.py has the checks that speak to a user.
Tensor lsh_hash(const Tensor& x, const Tensor& planes) {
  TORCH_CHECK(x.dim() == 2 && planes.dim() == 2 && planes.size(1) == x.size(1) + 1,
              "lsh_hash: x must be (N, C), planes (bits, C + 1)");
  TORCH_CHECK(planes.device() == x.device() && planes.scalar_type() == x.scalar_type(),
              "lsh_hash: x and planes must be of one device and dtype");
  const int64_t N = x.size(0), C = x.size(1), bits = planes.size(0);
  TORCH_CHECK(bits <= 63, "lsh_hash: at most 63 bits");
  const c10::cuda::OptionalCUDAGuard guard(x.device());
  // Autocast would compare in another type than the thresholds have.
  const c10::impl::ExcludeDispatchKeyGuard as_given(c10::autocast_dispatch_keyset);
  Tensor codes = at::empty({N}, x.options().dtype(at::kLong));
  if (N == 0) return codes;
  const Tensor products = at::mm(x, planes.narrow(1, 0, C).t()).contiguous(), thresholds = planes.select(1, C);
  TORCH_CHECK(pack_blocks(N) <= std::numeric_limits<int32_t>::max(), "lsh_hash: too many rows for one launch");
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "lsh_hash", [&] {
    pack_bits<scalar_t>
        <<<static_cast<unsigned>(pack_blocks(N)), kPackThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
            N, static_cast<int32_t>(bits), products.const_data_ptr<scalar_t>(), thresholds.const_data_ptr<scalar_t>(),
            thresholds.stride(0), codes.mutable_data_ptr<int64_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return codes;
}

template <typename Word>
void launch_kmeans(const Sizes& sizes, const Tensor& codes, const Tensor& lengths, const Tensor& first,
                   const Tensor& ks, Tensor& assignment, Tensor& counts, Tensor& centroids) {
  int limit = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, codes.device().index()));
  TORCH_CHECK(table_bytes<Word>(sizes) <= limit, "hamming_kmeans: ", sizes.K, " centroids of ", sizes.bits,
              " bits need ", table_bytes<Word>(sizes), " bytes of shared memory, this GPU has ", limit);
  const Plan plan = make_plan<Word>(sizes, limit);
  C10_CUDA_CHECK(cudaFuncSetAttribute(kmeans<Word>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(plan.shared_bytes)));
  kmeans<Word><<<sizes.G, kMeansThreads, plan.shared_bytes, c10::cuda::getCurrentCUDAStream()>>>(
      sizes, plan, codes.const_data_ptr<int64_t>(), lengths.const_data_ptr<int64_t>(), first.const_data_ptr<int64_t>(),
      ks.const_data_ptr<int64_t>(), assignment.mutable_data_ptr<int32_t>(), counts.mutable_data_ptr<int32_t>(),
      centroids.mutable_data_ptr<int64_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor, Tensor> hamming_kmeans(const Tensor& codes_, const Tensor& lengths_, const Tensor& first_,
                                                  const Tensor& ks_, int64_t iterations, int64_t bits) {
  TORCH_CHECK(codes_.dim() == 2 && first_.dim() == 2, "hamming_kmeans: codes and centroids must be matrices");
  const int64_t G = codes_.size(0), L = codes_.size(1), K = first_.size(1);
  TORCH_CHECK(first_.size(0) == G && lengths_.sizes() == at::IntArrayRef({G}) && ks_.sizes() == at::IntArrayRef({G}),
              "hamming_kmeans: lengths, centroids and ks must be of as many sets as codes");
  for (const Tensor& tensor : {codes_, lengths_, first_, ks_}) {
    TORCH_CHECK(tensor.scalar_type() == at::kLong && tensor.device() == codes_.device(),
                "hamming_kmeans: all tensors must be int64 on one device");
  }
  constexpr int64_t limit = std::numeric_limits<int32_t>::max() / 2;  // a sum of two sizes still fits 32 bits
  TORCH_CHECK(G <= limit && L <= limit && K <= limit, "hamming_kmeans: too large for 32-bit positions");
  TORCH_CHECK(K > 0, "hamming_kmeans: no centroids");
  TORCH_CHECK(bits >= 1 && bits <= 63, "hamming_kmeans: bits must be 1 to 63");
  const c10::cuda::OptionalCUDAGuard guard(codes_.device());
  const Tensor codes = codes_.contiguous(), lengths = lengths_.contiguous();
  const Tensor first = first_.contiguous(), ks = ks_.contiguous();
  Tensor assignment = at::empty({G, L}, codes.options().dtype(at::kInt));
  Tensor counts = at::empty({G, K}, codes.options().dtype(at::kInt)), centroids = at::empty_like(first);
  if (G > 0) {
    const Sizes sizes{static_cast<int32_t>(G), static_cast<int32_t>(L), static_cast<int32_t>(K),
                      static_cast<int32_t>(bits), static_cast<int32_t>(std::clamp<int64_t>(iterations, 0, limit))};
    const auto launch = bits <= 32 ? launch_kmeans<uint32_t> : launch_kmeans<uint64_t>;
    launch(sizes, codes, lengths, first, ks, assignment, counts, centroids);
  }
  return {assignment, counts, centroids};
}

}  // namespace

TORCH_LIBRARY_IMPL(unsupfss, CUDA, m) {
  m.impl("lsh_hash", &lsh_hash);
  m.impl("hamming_kmeans", &hamming_kmeans);
}
