// The gradients of a layer's weights by tiles: operands are transposed and packed piece by piece in the
// caches, where PyTorch's products would have them done in memory before.

#pragma once

#include <fbgemm/Utils.h>

#include "panels.h"

namespace {

// For both directions, [D, E + H + 1, G]: products over all N = T * B tokens of their input, the state
// before it and 1 (for the bias) with the gradients of the gates' sums.
void differentiate_weights(const BFloat16* x, const BFloat16* out, const BFloat16* const gates[2], BFloat16* gradients,
                           int64_t N, int64_t B, int64_t E, int64_t H, int threads) {
  constexpr int64_t TERMS = 512, STRIDE = TERMS + 32;  // of a piece of N; lest all rows share a set of the cache
  const int64_t G = 4 * H, M = E + H + 1, high = (M + 31) / 32 * 32;
  int64_t width = (G + 31) / 32 * 32;  // columns that a thread takes at a time
  while (width > 32 && 2 * ((G + width - 1) / width) < threads) width = (width / 2 + 31) / 32 * 32;
#pragma omp parallel num_threads(threads)
  {
    tiles::configure(32);
    const auto left = zeros<BFloat16>(high * STRIDE), right = room<BFloat16>(TERMS * width);
    const auto sums = room<float>(high * width);
    std::fill_n(left.get() + (E + H) * STRIDE, TERMS, BFloat16(1.f));
#pragma omp for schedule(dynamic) collapse(2)
    for (int64_t d = 0; d < 2; d++)
      for (int64_t column = 0; column < G; column += width) {
        const int64_t columns = std::min(width, G - column);
        for (int64_t n = 0; n < N; n += TERMS) {
          const int64_t terms = std::min(TERMS, (N - n + 31) / 32 * 32);
          // Transposes `count` columns of the rows that stand `shift` after these, 0 where there are none.
          const auto transpose = [=](const BFloat16* from, int64_t stride, int64_t count, int64_t shift, BFloat16* to) {
            for (int64_t k = 0; k < terms; k += 32) {
              const int64_t row = n + k + shift, begin = std::clamp<int64_t>(-row, 0, 32);
              const int64_t end = std::clamp<int64_t>(N - row, 0, 32);
              for (int64_t m = 0; m < count && end - begin < 32; m++)
                std::fill_n(to + m * STRIDE + k, 32, BFloat16(0.f));
              if (begin < end)
                fbgemm::transpose_simd(end - begin, count,
                                       reinterpret_cast<const uint16_t*>(from + (row + begin) * stride), stride,
                                       reinterpret_cast<uint16_t*>(to + k + begin), STRIDE);
            }
          };
          transpose(x, E, E, 0, left.get());
          transpose(out + d * H, 2 * H, H, d ? B : -B, left.get() + E * STRIDE);
          for (int64_t k = 0; k < terms; k += 32)
            tiles::pack(gates[d] + (n + k) * G + column, G, N - n - k, columns, right.get() + k * 32, 32 * TERMS);
          for (int64_t m = 0; m < high; m += 32)
            for (int64_t c = 0; c < columns; c += 32) {
              float* const block = sums.get() + m * width + c * 32;
              const BFloat16* const below = left.get() + (m + 32 + c / 32 % 32) * STRIDE;
              const auto fetch = [=](int64_t line) __attribute__((always_inline)) {  // what comes next
                __builtin_prefetch(below + 32 * line, 0, 2);
                for (int64_t k = 0; k < 64; k += 16) __builtin_prefetch(block + 1024 + 64 * line + k, 1, 3);
              };
              tiles::multiply(32, left.get() + m * STRIDE, STRIDE, right.get() + c * TERMS, terms, n > 0, block, 32, 0,
                              16, fetch);
            }
        }
        for (int64_t m = 0; m < M; m++)
          for (int64_t c = 0; c < columns; c += LANES)
            store(load(sums.get() + m / 32 * 32 * width + c / 32 * 1024 + m % 32 * 32 + c % 32),
                  gradients + (d * M + m) * G + column + c);
      }
    tiles::release();
  }
}

}  // namespace
