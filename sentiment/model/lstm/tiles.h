// Products of bfloat16 matrices by a Xeon's tile registers (AMX), which hold 16 rows of 64 bytes each:
// four take 32 x 32 sums, four their operands of 32 terms. oneDNN's reach a third of what they can do.

#pragma once

#include <ATen/cpu/Utils.h>
#include <c10/util/BFloat16.h>
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

namespace tiles {

using c10::BFloat16;

// Whether this process may use them; asks the system for it.
inline bool available() {
#ifdef __AMX_BF16__
  static const bool allowed = at::cpu::init_amx();
  return allowed;
#else
  return false;
#endif
}

#ifdef __AMX_BF16__
// Of a thread, before its first product: how many rows the left operand has, at most 32.
inline void configure(int64_t rows) {
  alignas(64) uint8_t settings[64] = {1};  // palette 1; from 16 on bytes per row, from 48 on rows
  for (int tile = 0; tile < 8; tile++) {
    const int64_t own = tile == 6 || tile == 7 ? 16 : tile == 2 || tile == 3 || tile == 5 ? rows - 16 : rows;
    settings[16 + 2 * tile] = 64, settings[48 + tile] = std::clamp<int64_t>(own, 1, 16);
  }
  asm volatile("" ::"r"(settings) : "memory");  // GCC 12 takes only the first bytes for read
  _tile_loadconfig(settings);
}
inline void release() { _tile_release(); }

// 32 terms of the right operand: columns of rows that stand `stride` after one another (0 for those
// from `rows` on), as tiles of 16 columns, of which two make a panel, each `panel` after the one before.
inline void pack(const BFloat16* from, int64_t stride, int64_t rows, int64_t columns, BFloat16* to, int64_t panel) {
  for (int64_t k = 0; k < 32; k += 2, from += 2 * stride, to += 32)
    for (int64_t c = 0; c < columns; c += 16) {
      const auto row = [&](int64_t r) {
        return k + r < rows ? _mm512_cvtepu16_epi32(_mm256_loadu_epi16(from + r * stride + c)) : __m512i{};
      };
      _mm512_store_epi32(to + c / 32 * panel + c % 32 * 32, row(0) | _mm512_slli_epi32(row(1), 16));
    }
}

// sums, 32 rows of 32 (each C after the one before), = up to 32 rows of `a` (each `stride` after the
// one before) times `b`, two columns of tiles; added to what stands there, if `onto`. The right operand
// is too large for the first-level cache, and is told not to push the left one out of it. On the way
// it calls work(from), ... work(to - 1), which the core can do beside the product.
template <typename Work>
[[gnu::always_inline]] inline void multiply(int64_t rows, const BFloat16* a, int64_t stride, const BFloat16* b,
                                            int64_t terms, bool onto, float* sums, int64_t C, int64_t from,
                                            int64_t to, Work work) {
  const int64_t steps = terms / 32, count = to - from, lower = rows > 16 ? 16 * stride : 0;
  asm volatile("" ::: "memory");  // the compiler does not know that these instructions read and write
  if (onto) {
    _tile_loadd(0, sums, 4 * C);
    _tile_loadd(1, sums + 16, 4 * C);
    _tile_loadd(2, sums + 16 * C, 4 * C);
    _tile_loadd(3, sums + 16 * C + 16, 4 * C);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t step = 1, done = 0; step <= steps; step++, a += 32, b += 1024) {
    _tile_loadd(4, a, 2 * stride);
    _tile_stream_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_stream_loadd(7, b + 512, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + lower, 2 * stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    for (; done * steps < count * step; done++) work(from + done);
  }
  _tile_stored(0, sums, 4 * C);
  _tile_stored(1, sums + 16, 4 * C);
  _tile_stored(2, sums + 16 * C, 4 * C);
  _tile_stored(3, sums + 16 * C + 16, 4 * C);
  asm volatile("" ::: "memory");
}
#else
inline void configure(int64_t) {}
inline void release() {}
inline void pack(const BFloat16*, int64_t, int64_t, int64_t, BFloat16*, int64_t) {}
template <typename Work>
inline void multiply(int64_t, const BFloat16*, int64_t, const BFloat16*, int64_t, bool, float*, int64_t, int64_t,
                     int64_t, Work) {}
#endif

}  // namespace tiles
