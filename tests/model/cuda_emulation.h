// Enough of CUDA for a CPU to run our kernels, one block after the other, so that a machine without a GPU can test
// them.
//
// Each CUDA thread is a fiber that runs until it waits for others. Between two barriers the fibers run in a random
// order: a value read without the barrier that it needs has likely not been written. Shared memory begins as garbage. A
// wait that can never end (not all threads of the block, or lanes of the mask, come) and a write past the shared memory
// that was asked for are errors.
//
// Include it after PyTorch's headers and before the kernels.

#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

namespace emulation {

struct Index {
  unsigned x;
};

constexpr unsigned kWarp = 32;
constexpr size_t kSharedBytes = 64 * 1024;
constexpr unsigned char kGarbage = 0xff;  // not a number in any floating type

}  // namespace emulation

inline emulation::Index threadIdx, blockIdx, blockDim, gridDim;
inline unsigned char shared_memory[emulation::kSharedBytes] __align__(16);

namespace emulation {

class Grid {
 public:
  // Runs `kernel` for each thread. It is called with no arguments.
  void run(int64_t blocks, unsigned threads, size_t shared_bytes, const std::function<void()>& kernel) {
    if (blocks < 1 || blocks > INT32_MAX || threads < 1 || threads > 1024) throw std::runtime_error("invalid launch");
    if (shared_bytes > kSharedBytes) throw std::runtime_error("too much shared memory");
    kernel_ = &kernel;
    gridDim.x = static_cast<unsigned>(blocks);
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block(threads, shared_bytes);
  }

  void wait_for_block() { wait(State::at_block_barrier, 0); }

  void wait_for_warp(unsigned mask) { wait(State::at_warp_barrier, mask); }

  // What each lane of the warp gives, after all lanes of the mask have given it.
  template <typename Number, typename Use>
  auto exchange(unsigned mask, Number given, const Use& use) {
    static_assert(sizeof(Number) <= sizeof(uint64_t), "at most 64 bits");
    std::memcpy(&exchanged_[threadIdx.x], &given, sizeof(Number));
    wait_for_warp(mask);
    const unsigned first = threadIdx.x / kWarp * kWarp;
    const auto result = use([&](unsigned lane) {
      if (!(mask >> lane & 1)) throw std::runtime_error("a lane outside of the mask was read");
      Number number;
      std::memcpy(&number, &exchanged_[first + lane], sizeof(Number));
      return number;
    });
    wait_for_warp(mask);  // nobody gives the next before all have read
    return result;
  }

  int any_of_block(int vote) {
    exchanged_[threadIdx.x] = vote != 0;
    wait_for_block();
    const int any = std::any_of(exchanged_, exchanged_ + blockDim.x, [](uint64_t one) { return one != 0; });
    wait_for_block();
    return any;
  }

 private:
  enum class State { ready, at_block_barrier, at_warp_barrier, done };

  static constexpr size_t kStackBytes = 64 * 1024;

  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[kStackBytes]};
    State state;
    unsigned mask;
  };

  // A fiber's first function.
  static void begin();

  // An error in the kernel ends the launch.
  void run_thread() {
    try {
      (*kernel_)();
    } catch (...) {
      error_ = std::current_exception();
    }
    fibers_[current_].state = State::done;
  }

  void wait(State state, unsigned mask) {
    Fiber& fiber = fibers_[current_];
    fiber.state = state;
    fiber.mask = mask;
    swapcontext(&fiber.context, &scheduler_);
  }

  void run_block(unsigned threads, size_t shared_bytes) {
    std::memset(shared_memory, kGarbage, kSharedBytes);
    if (fibers_.size() < threads) fibers_.resize(threads);
    order_.resize(threads);
    for (unsigned i = 0; i < threads; ++i) {
      Fiber& fiber = fibers_[i];
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, &Grid::begin, 0);
      fiber.state = State::ready;
      order_[i] = i;
    }
    do {
      std::shuffle(order_.begin(), order_.end(), random_);
      for (unsigned i : order_) {
        if (fibers_[i].state != State::ready) continue;
        current_ = threadIdx.x = i;
        swapcontext(&scheduler_, &fibers_[i].context);
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
      }
    } while (release(threads));
    for (size_t i = shared_bytes; i < kSharedBytes; ++i) {
      if (shared_memory[i] != kGarbage) throw std::runtime_error("a write past the shared memory");
    }
  }

  // Lets those go on whose wait is over. False when all threads have ended.
  bool release(unsigned threads) {
    const auto in_state = [&](State state) {
      const auto is = [&](const Fiber& fiber) { return fiber.state == state; };
      return std::count_if(fibers_.begin(), fibers_.begin() + threads, is);
    };
    if (in_state(State::done) == threads) return false;
    const bool all_at_barrier = in_state(State::at_block_barrier) == threads;
    std::vector<Fiber*> released;
    for (unsigned i = 0; i < threads; ++i) {
      const bool at_warp_barrier = fibers_[i].state == State::at_warp_barrier;
      if (all_at_barrier || (at_warp_barrier && warp_is_complete(i, threads))) released.push_back(&fibers_[i]);
    }
    if (released.empty()) throw std::runtime_error("threads wait for others that never come");
    for (Fiber* fiber : released) fiber->state = State::ready;
    return true;
  }

  bool warp_is_complete(unsigned thread, unsigned threads) const {
    const unsigned first = thread / kWarp * kWarp, mask = fibers_[thread].mask;
    if (!(mask >> (thread - first) & 1)) return false;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if (!(mask >> lane & 1)) continue;
      if (first + lane >= threads) return false;
      const Fiber& fiber = fibers_[first + lane];
      if (fiber.state != State::at_warp_barrier || fiber.mask != mask) return false;
    }
    return true;
  }

  const std::function<void()>* kernel_ = nullptr;
  std::vector<Fiber> fibers_;
  std::vector<unsigned> order_;
  std::mt19937 random_{0};
  std::exception_ptr error_;
  ucontext_t scheduler_;
  unsigned current_ = 0;
  uint64_t exchanged_[1024];
};

inline Grid& grid() {
  static Grid only;
  return only;
}

inline void Grid::begin() { grid().run_thread(); }

}  // namespace emulation

inline void __syncthreads() { emulation::grid().wait_for_block(); }

inline int __syncthreads_or(int vote) { return emulation::grid().any_of_block(vote); }

inline void __syncwarp(unsigned mask = 0xffffffffu) { emulation::grid().wait_for_warp(mask); }

template <typename Number>
Number __shfl_xor_sync(unsigned mask, Number number, int lanes) {
  const unsigned other = threadIdx.x % emulation::kWarp ^ lanes;
  return emulation::grid().exchange(mask, number, [&](const auto& of_lane) { return of_lane(other); });
}

inline unsigned __ballot_sync(unsigned mask, int vote) {
  return emulation::grid().exchange(mask, vote, [&](const auto& of_lane) {
    unsigned votes = 0;
    for (unsigned lane = 0; lane < emulation::kWarp; ++lane) {
      if (mask >> lane & 1) votes |= static_cast<unsigned>(of_lane(lane) != 0) << lane;
    }
    return votes;
  });
}

// Fibers are never interrupted.
template <typename Number>
Number atomicAdd(Number* number, Number more) {
  const Number before = *number;
  *number += more;
  return before;
}

inline int __popc(unsigned word) { return __builtin_popcount(word); }
inline int __popcll(unsigned long long word) { return __builtin_popcountll(word); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dmul_rn(double a, double b) { return a * b; }
