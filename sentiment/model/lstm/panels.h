// Right operands of a step's small products, and those products by what the processor has for them.

#pragma once

#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <type_traits>

#include "numbers.h"
#include "tiles.h"

namespace {

namespace blas = at::native::cpublas;

constexpr int64_t WIDTH = 64;  // most columns of a panel: what oneDNN packs at once

// Room for that many numbers, at the beginning of a line of the cache; the second: all 0.
template <typename scalar>
using Room = std::unique_ptr<scalar[], decltype(&std::free)>;
template <typename scalar>
Room<scalar> room(int64_t count) {
  return {static_cast<scalar*>(std::aligned_alloc(64, (count * sizeof(scalar) + 63) / 64 * 64)), std::free};
}
template <typename scalar>
Room<scalar> zeros(int64_t count) {
  auto numbers = room<scalar>(count);
  std::fill_n(numbers.get(), count, scalar(0.f));
  return numbers;
}

// Weights of both directions, [D, K, N] row-major, cut into panels of `width` columns: float32 as they
// are, [K, width]; bfloat16 in pairs of rows, [K / 2, width, 2], or widened where the processor cannot
// multiply it, or as tiles, [K / 32, 2, 16, 16, 2]. K is a multiple of 32, N of 16.
template <typename scalar>
class Panels {
 public:
  static bool has_pairs() { return std::is_same_v<scalar, BFloat16> && __builtin_cpu_supports("avx512bf16"); }
  static inline const bool native = has_pairs(), by_tiles = has_pairs() && tiles::available();
  const int64_t K, N, width;

  Panels(const scalar* weights, int64_t K, int64_t N, int threads)
      : K(K), N(N), width(by_tiles ? 32 : std::gcd(N, WIDTH)), numbers(room<float>(2 * K * (N + 16))) {
#pragma omp parallel for num_threads(threads) collapse(2)
    for (int64_t d = 0; d < 2; d++)
      for (int64_t first = 0; first < K; first += 32) {
        const scalar* from = weights + (d * K + first) * N;
        if constexpr (std::is_same_v<scalar, BFloat16>)
          if (by_tiles) {
            tiles::pack(from, N, 32, N, panel<scalar>(d, 0) + first * 32, 32 * K);
            continue;
          }
        for (int64_t k = first; k < first + 32; k++)
          for (int64_t n = 0; n < N; n++, from++) {
            const int64_t column = n / width * width, within = n % width;
            if (native)
              panel<scalar>(d, column)[k / 2 * 2 * width + 2 * within + k % 2] = *from;
            else
              panel<float>(d, column)[k * width + within] = *from;
          }
      }
  }

  // sums, rows of C, = rows of K (each `stride` after the one before) times the panel at `column`;
  // with work(from), ... work(to - 1) done beside it or after it.
  template <typename Work>
  [[gnu::always_inline]] void multiply(int64_t rows, const scalar* a, int64_t stride, int64_t d, int64_t column,
                                       int64_t C, float* sums, int64_t from, int64_t to, Work work) const {
    if constexpr (std::is_same_v<scalar, BFloat16>)
      if (by_tiles)
        return tiles::multiply(rows, a, stride, panel<scalar>(d, column), K, false, sums, C, from, to, work);
    if (native || std::is_same_v<scalar, float>) {
      blas::brgemm(rows, width, K, stride, width, C, false, a, panel<scalar>(d, column), sums, native);
    } else {
      const auto wide = std::make_unique<float[]>(rows * K);
      for (int64_t r = 0; r < rows; r++) std::copy_n(a + r * stride, K, wide.get() + r * K);
      blas::brgemm(rows, width, K, K, width, C, false, wide.get(), panel<float>(d, column), sums, false);
    }
    for (; from < to; from++) work(from);
  }

  static void begin(int64_t rows) {  // by a thread, before a block of so many rows
    if (by_tiles) tiles::configure(rows);
  }
  static void end() { by_tiles ? tiles::release() : blas::brgemm_release(native); }  // after its last product

 private:
  template <typename stored>
  stored* panel(int64_t d, int64_t column) const {
    return reinterpret_cast<stored*>(numbers.get()) + (d * ((N + width - 1) / width * width) + column) * K;
  }
  Room<float> numbers;
};

}  // namespace
