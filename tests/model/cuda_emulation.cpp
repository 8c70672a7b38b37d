// Our CUDA kernels as operators that run on a CPU, for tests. The launches are those of the .cu files.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>

#include "cuda_emulation.h"

#include "../../model/clusterutils/clusterutils_kernels.cuh"
#include "../../model/ops/deform_attn_kernels.cuh"

namespace {

using at::Tensor;

// So little that in larger sets some codes are cached and others are not.
constexpr int64_t kSharedForKmeans = 8 * 1024;

deform_attn_cuda::Sizes sizes_of(const Tensor& value, const Tensor& locations) {
  const auto size = [](int64_t number) { return static_cast<int32_t>(number); };
  return {size(value.size(0)),     size(value.size(1)),     size(value.size(2)),    size(value.size(3)),
          size(locations.size(1)), size(locations.size(3)), size(locations.size(4))};
}

Tensor deform_attn(const Tensor& value, const Tensor& shapes, const Tensor& locations, const Tensor& weights) {
  using namespace deform_attn_cuda;
  const Sizes sizes = sizes_of(value, locations);
  Tensor output = at::full({sizes.N, sizes.Q, int64_t{sizes.M} * sizes.D}, NAN, value.options());
  if (value.numel() == 0 || weights.numel() == 0) return output.zero_();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "deform_attn", [&] {
    using A = Accumulate<scalar_t>;
    const auto* values = value.const_data_ptr<scalar_t>();
    for_width<scalar_t>(pack_width<scalar_t>(sizes.D, values, values), [&](auto width) {
      const Plan plan = make_plan(sizes, width, kForwardBytes<A>);
      emulation::grid().run(plan.blocks, kThreads, plan.shared_bytes, [&] {
        forward<scalar_t, decltype(width)::value>(sizes, plan, values, shapes.const_data_ptr<int64_t>(),
                                                  locations.const_data_ptr<A>(), weights.const_data_ptr<A>(),
                                                  output.mutable_data_ptr<scalar_t>());
      });
    });
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> deform_attn_backward(const Tensor& grad, const Tensor& value, const Tensor& shapes,
                                                        const Tensor& locations, const Tensor& weights,
                                                        bool with_value) {
  using namespace deform_attn_cuda;
  const Sizes sizes = sizes_of(value, locations);
  Tensor grad_locations = at::full_like(locations, NAN), grad_weights = at::full_like(weights, NAN);
  Tensor grad_value = at::zeros(with_value ? value.sizes() : at::IntArrayRef({0}), locations.options());
  if (value.numel() == 0 || weights.numel() == 0) {
    return {grad_value.to(value.scalar_type()), grad_locations.zero_(), grad_weights.zero_()};
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "deform_attn_backward", [&] {
    using A = Accumulate<scalar_t>;
    const auto *values = value.const_data_ptr<scalar_t>(), *grads = grad.const_data_ptr<scalar_t>();
    for_width<scalar_t>(pack_width<scalar_t>(sizes.D, values, grads), [&](auto width) {
      const Plan plan = make_plan(sizes, width, kBackwardBytes<A>);
      emulation::grid().run(plan.blocks, kThreads, plan.shared_bytes, [&] {
        backward<scalar_t, decltype(width)::value>(
            sizes, plan, grads, values, shapes.const_data_ptr<int64_t>(), locations.const_data_ptr<A>(),
            weights.const_data_ptr<A>(), with_value ? grad_value.mutable_data_ptr<A>() : nullptr,
            grad_locations.mutable_data_ptr<A>(), grad_weights.mutable_data_ptr<A>());
      });
    });
  });
  return {grad_value.to(value.scalar_type()), grad_locations, grad_weights};
}

Tensor lsh_hash(const Tensor& x, const Tensor& planes) {
  using namespace clusterutils_cuda;
  const int64_t N = x.size(0), C = x.size(1), bits = planes.size(0);
  Tensor codes = at::full({N}, -1, x.options().dtype(at::kLong));
  if (N == 0) return codes;
  const Tensor products = at::mm(x, planes.narrow(1, 0, C).t()).contiguous(), thresholds = planes.select(1, C);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "lsh_hash", [&] {
    emulation::grid().run(pack_blocks(N), kPackThreads, 0, [&] {
      pack_bits<scalar_t>(N, static_cast<int32_t>(bits), products.const_data_ptr<scalar_t>(),
                          thresholds.const_data_ptr<scalar_t>(), thresholds.stride(0),
                          codes.mutable_data_ptr<int64_t>());
    });
  });
  return codes;
}

template <typename Word>
void launch_kmeans(const clusterutils_cuda::Sizes& sizes, const Tensor& codes, const Tensor& lengths,
                   const Tensor& first, const Tensor& ks, Tensor& assignment, Tensor& counts, Tensor& centroids) {
  using namespace clusterutils_cuda;
  TORCH_CHECK(table_bytes<Word>(sizes) <= kSharedForKmeans);
  const Plan plan = make_plan<Word>(sizes, kSharedForKmeans);
  emulation::grid().run(sizes.G, kMeansThreads, plan.shared_bytes, [&] {
    kmeans<Word>(sizes, plan, codes.const_data_ptr<int64_t>(), lengths.const_data_ptr<int64_t>(),
                 first.const_data_ptr<int64_t>(), ks.const_data_ptr<int64_t>(), assignment.mutable_data_ptr<int32_t>(),
                 counts.mutable_data_ptr<int32_t>(), centroids.mutable_data_ptr<int64_t>());
  });
}

std::tuple<Tensor, Tensor, Tensor> hamming_kmeans(const Tensor& codes, const Tensor& lengths, const Tensor& first,
                                                  const Tensor& ks, int64_t iterations, int64_t bits) {
  const int64_t G = codes.size(0), L = codes.size(1), K = first.size(1);
  Tensor assignment = at::full({G, L}, -2, codes.options().dtype(at::kInt));
  Tensor counts = at::full({G, K}, -2, codes.options().dtype(at::kInt)), centroids = at::full_like(first, -2);
  const clusterutils_cuda::Sizes sizes{static_cast<int32_t>(G), static_cast<int32_t>(L), static_cast<int32_t>(K),
                                       static_cast<int32_t>(bits), static_cast<int32_t>(iterations)};
  const auto launch = bits <= 32 ? launch_kmeans<uint32_t> : launch_kmeans<uint64_t>;
  launch(sizes, codes, lengths, first, ks, assignment, counts, centroids);
  return {assignment, counts, centroids};
}

}  // namespace

TORCH_LIBRARY(unsupfss_emulated, m) {
  m.def(
      "deform_attn(Tensor value, Tensor spatial_shapes, Tensor sampling_locations, Tensor attention_weights) -> "
      "Tensor");
  m.def(
      "deform_attn_backward(Tensor grad, Tensor value, Tensor spatial_shapes, Tensor sampling_locations, "
      "Tensor attention_weights, bool with_value) -> (Tensor, Tensor, Tensor)");
  m.def("lsh_hash(Tensor x, Tensor planes) -> Tensor");
  m.def(
      "hamming_kmeans(Tensor codes, Tensor lengths, Tensor centroids, Tensor ks, int iterations, int bits) -> "
      "(Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(unsupfss_emulated, CPU, m) {
  m.impl("deform_attn", &deform_attn);
  m.impl("deform_attn_backward", &deform_attn_backward);
  m.impl("lsh_hash", &lsh_hash);
  m.impl("hamming_kmeans", &hamming_kmeans);
}
