// Deformable attention on a GPU (docs/method.md, section 7): forward and backward. deform_attn_cpu.cpp has the schema.

#include "deform_attn_kernels.cuh"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cstdint>
#include <limits>
#include <tuple>

namespace {

using at::Tensor;
using namespace deform_attn_cuda;

struct Problem {
  Sizes sizes;
  Tensor value, shapes, locations, weights;

  bool empty() const { return value.numel() == 0 || weights.numel() == 0; }
};

void check_launch(const Plan& plan) {
  TORCH_CHECK(plan.blocks <= std::numeric_limits<int32_t>::max(), "deform_attn: too many queries for one launch");
}

// For memory's sake only; model/ops/__init__.py has the checks that speak to a user.
Problem check(const Tensor& value, const Tensor& shapes, const Tensor& locations, const Tensor& weights) {
  TORCH_CHECK(value.dim() == 4 && locations.dim() == 6 && weights.dim() == 5, "deform_attn: wrong number of axes");
  const int64_t N = value.size(0), S = value.size(1), M = value.size(2), D = value.size(3);
  const int64_t Q = locations.size(1), L = locations.size(3), P = locations.size(4);
  TORCH_CHECK(locations.sizes() == at::IntArrayRef({N, Q, M, L, P, 2}), "deform_attn: shape of sampling_locations");
  TORCH_CHECK(weights.sizes() == at::IntArrayRef({N, Q, M, L, P}), "deform_attn: shape of attention_weights");
  TORCH_CHECK(locations.device() == value.device() && weights.device() == value.device(),
              "deform_attn: value, locations and weights must be on one device");
  const auto coordinates = value.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK(locations.scalar_type() == coordinates && weights.scalar_type() == coordinates,
              "deform_attn: locations and weights must be ", coordinates);
  TORCH_CHECK(shapes.sizes() == at::IntArrayRef({L, 2}) && shapes.scalar_type() == at::kLong,
              "deform_attn: spatial_shapes must be (L, 2) int64");
  TORCH_CHECK(S > 0 || L == 0, "deform_attn: value has no pixels");
  // Positions in an image, and a query's heads and points, are counted in 32 bits.
  const double limit = std::numeric_limits<int32_t>::max();
  for (const double count : {double(N), double(S) * M * D, double(Q) * M, double(L) * P}) {
    TORCH_CHECK(count <= limit, "deform_attn: N, an image's values (S * M * D), its queries (Q * M) or their points ",
                "(L * P) are 2^31 or more");
  }
  // Shapes that are on a GPU already are not waited for; the kernels stay inside `value` whatever they hold.
  if (shapes.is_cpu()) {
    int64_t pixels = 0;
    const Tensor sides = shapes.contiguous();
    for (int64_t l = 0; l < L; ++l) {
      const int64_t height = sides.const_data_ptr<int64_t>()[2 * l], width = sides.const_data_ptr<int64_t>()[2 * l + 1];
      TORCH_CHECK(height > 0 && width > 0, "deform_attn: spatial_shapes must be positive");
      pixels += height * width;
    }
    TORCH_CHECK(pixels == S, "deform_attn: spatial_shapes hold ", pixels, " pixels, value has ", S);
  }
  const Sizes sizes{static_cast<int32_t>(N), static_cast<int32_t>(S), static_cast<int32_t>(M), static_cast<int32_t>(D),
                    static_cast<int32_t>(Q), static_cast<int32_t>(L), static_cast<int32_t>(P)};
  return {sizes, value.contiguous(), shapes.to(value.device(), at::kLong, /*non_blocking=*/true).contiguous(),
          locations.contiguous(), weights.contiguous()};
}

Tensor deform_attn(const Tensor& value, const Tensor& shapes, const Tensor& locations, const Tensor& weights) {
  const c10::cuda::OptionalCUDAGuard guard(value.device());
  const Problem given = check(value, shapes, locations, weights);
  const Sizes sizes = given.sizes;
  Tensor output = at::empty({sizes.N, sizes.Q, int64_t{sizes.M} * sizes.D}, value.options());
  if (given.empty()) return output.zero_();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "deform_attn", [&] {
    using A = Accumulate<scalar_t>;
    const auto* values = given.value.const_data_ptr<scalar_t>();
    for_width<scalar_t>(pack_width<scalar_t>(sizes.D, values, values), [&](auto width) {
      const Plan plan = make_plan(sizes, width, kForwardBytes<A>);
      check_launch(plan);
      forward<scalar_t, decltype(width)::value>
          <<<static_cast<unsigned>(plan.blocks), kThreads, plan.shared_bytes, c10::cuda::getCurrentCUDAStream()>>>(
              sizes, plan, values, given.shapes.const_data_ptr<int64_t>(), given.locations.const_data_ptr<A>(),
              given.weights.const_data_ptr<A>(), output.mutable_data_ptr<scalar_t>());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    });
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> deform_attn_backward(const Tensor& grad_, const Tensor& value, const Tensor& shapes,
                                                        const Tensor& locations, const Tensor& weights,
                                                        bool with_value) {
  const c10::cuda::OptionalCUDAGuard guard(value.device());
  const Problem given = check(value, shapes, locations, weights);
  const Sizes sizes = given.sizes;
  TORCH_CHECK(grad_.sizes() == at::IntArrayRef({sizes.N, sizes.Q, int64_t{sizes.M} * sizes.D}) &&
                  grad_.scalar_type() == value.scalar_type() && grad_.device() == value.device(),
              "deform_attn: the gradient must be like the output");
  const Tensor grad = grad_.contiguous();
  Tensor grad_locations = at::empty_like(given.locations), grad_weights = at::empty_like(given.weights);
  // 16-bit gradients are added up in 32 bits and rounded once.
  Tensor grad_value = at::zeros(with_value ? value.sizes() : at::IntArrayRef({0}),
                                value.options().dtype(given.locations.scalar_type()));
  if (given.empty()) return {grad_value.to(value.scalar_type()), grad_locations.zero_(), grad_weights.zero_()};
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, value.scalar_type(), "deform_attn_backward", [&] {
    using A = Accumulate<scalar_t>;
    const auto *values = given.value.const_data_ptr<scalar_t>(), *grads = grad.const_data_ptr<scalar_t>();
    for_width<scalar_t>(pack_width<scalar_t>(sizes.D, values, grads), [&](auto width) {
      const Plan plan = make_plan(sizes, width, kBackwardBytes<A>);
      check_launch(plan);
      backward<scalar_t, decltype(width)::value>
          <<<static_cast<unsigned>(plan.blocks), kThreads, plan.shared_bytes, c10::cuda::getCurrentCUDAStream()>>>(
              sizes, plan, grads, values, given.shapes.const_data_ptr<int64_t>(), given.locations.const_data_ptr<A>(),
              given.weights.const_data_ptr<A>(), with_value ? grad_value.mutable_data_ptr<A>() : nullptr,
              grad_locations.mutable_data_ptr<A>(), grad_weights.mutable_data_ptr<A>());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    });
  });
  return {grad_value.to(value.scalar_type()), grad_locations, grad_weights};
}

}  // namespace

TORCH_LIBRARY_IMPL(unsupfss, CUDA, m) {
  m.impl("deform_attn", &deform_attn);
  m.impl("deform_attn_backward", &deform_attn_backward);
}
