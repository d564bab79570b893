// One bidirectional LSTM layer on a CPU, forward and backward, called from kernel.py.
//
// Rows of a batch do not depend on each other, so a thread takes a block of rows of one direction
// through all time steps without waiting for another. A step of a block is a small product with the
// weights, which stay in the thread's own cache, and one pass over its sums. Both
// directions meet a review's tokens where they stand: the right-to-left one begins at the longest
// row's end, and a row joins in at its own last token.
//
// T time, B batch, D direction (0 left to right, 1 right to left), H hidden size, G = 4H gates. They
// stand by UNITS, [H / UNITS, 4, UNITS], each group in PyTorch's order: input, forget, candidate, output.

#include <ATen/native/CPUBlas.h>
#include <fbgemm/Utils.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <type_traits>
#include <utility>

#include "tiles.h"

namespace {

using at::BFloat16;
namespace blas = at::native::cpublas;

constexpr int64_t ROWS = 32;   // of a block: as many as fill the matrix units of a core
constexpr int64_t WIDTH = 64;  // most columns of a panel: what oneDNN packs at once
constexpr int64_t UNITS = 16;  // whose four gates are such a panel

#ifdef __AVX512DQ__
using Floats = __m512;  // below, limits come first, which keeps what is no number
inline Floats clamp(Floats x, float most) { return _mm512_max_ps(Floats{} - most, _mm512_min_ps(Floats{} + most, x)); }
inline Floats fraction(Floats x) { return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF); }
inline Floats scale(Floats p, Floats y) { return _mm512_scalef_ps(p, y); }  // p times 2^floor(y)
inline Floats reciprocal(Floats x) {  // of a finite x; faster than a division
  const Floats guess = _mm512_rcp14_ps(x);
  return guess * (2.f - x * guess);  // Newton's step doubles its 14 bits
}
#else
using Floats = __m256;
inline Floats clamp(Floats x, float most) { return _mm256_max_ps(Floats{} - most, _mm256_min_ps(Floats{} + most, x)); }
inline Floats fraction(Floats x) { return x - _mm256_floor_ps(x); }
inline Floats scale(Floats p, Floats y) {
  return p * std::bit_cast<Floats>((std::bit_cast<__v8su>(_mm256_cvtps_epi32(_mm256_floor_ps(y))) + 127) << 23);
}
inline Floats reciprocal(Floats x) { return 1.f / x; }
#endif
constexpr int64_t LANES = sizeof(Floats) / sizeof(float);
using Unaligned [[gnu::vector_size(LANES * 4), gnu::aligned(4), gnu::may_alias]] = float;
using Bits [[gnu::vector_size(LANES * 4)]] = uint32_t;
using Halves [[gnu::vector_size(LANES * 2), gnu::aligned(2), gnu::may_alias]] = uint16_t;

inline Floats load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline Floats load(const BFloat16* from) {
#ifdef __AVX512DQ__
  return std::bit_cast<Floats>(_mm512_cvtepu16_epi32(_mm256_loadu_epi16(from)) << 16);
#else
  return std::bit_cast<Floats>(__builtin_convertvector(*reinterpret_cast<const Halves*>(from), Bits) << 16);
#endif
}
inline void store(Floats values, float* to) { *reinterpret_cast<Unaligned*>(to) = values; }
inline void store(Floats values, BFloat16* to) {  // to nearest, ties to even
#ifdef __AVX512BF16__
  *reinterpret_cast<Halves*>(to) = std::bit_cast<Halves>(_mm512_cvtneps_pbh(values));
#else
  const auto bits = std::bit_cast<Bits>(values);
  *reinterpret_cast<Halves*>(to) = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Halves);
#endif
}

// Stores what is not read again soon without fetching its line into the caches first.
inline void stream(Floats values, float* to) {
#ifdef __AVX512DQ__
  _mm512_stream_ps(to, values);
#else
  _mm256_stream_ps(to, values);
#endif
}
inline void stream(Floats values, BFloat16* to) {
  alignas(sizeof(Floats) / 2) BFloat16 rounded[LANES];
  store(values, rounded);
#ifdef __AVX512DQ__
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), *reinterpret_cast<const __m256i*>(rounded));
#else
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), *reinterpret_cast<const __m128i*>(rounded));
#endif
}

// 2^y by a polynomial for [0, 1], and what is made of it. Numbers that are kept as bfloat16, to 2e-3,
// are satisfied with relative errors of 1.7e-4; others have 7.5e-8, sigmoids 1.4e-7, tangents 2.8e-7.
#ifdef __AVX512DQ__
template <typename scalar>
constexpr bool rough = std::is_same_v<scalar, BFloat16>;
inline Floats guess(Floats x) { return _mm512_rcp14_ps(x); }
#else
template <typename scalar>
constexpr bool rough = false;
inline Floats guess(Floats x) { return 1.f / x; }
#endif
template <typename scalar>
inline Floats power_of_two(Floats y) {
  const Floats x = fraction(y);
  if constexpr (rough<scalar>) return scale(((7.826797e-2f * x + 2.2630768e-1f) * x + 6.9542435e-1f) * x + 1.f, y);
  const Floats p = ((1.87757297e-3f * x + 8.98933864e-3f) * x + 5.58263303e-2f) * x + 2.40153607e-1f;
  return scale((p * x + 6.93153076e-1f) * x + 0.999999925f, y);
}
constexpr float LOG2_E = 1.44269504f;
template <typename scalar>
inline Floats sigmoid(Floats x) {
  if constexpr (rough<scalar>) return guess(1.f + power_of_two<scalar>(x * -LOG2_E));
  return reciprocal(1.f + power_of_two<scalar>(clamp(x * -LOG2_E, 64.f)));
}
template <typename scalar>
inline Floats hyperbolic_tangent(Floats x) {
  const Floats e = power_of_two<scalar>(clamp(x * (-2.f * LOG2_E), 64.f));
  if constexpr (rough<scalar>) return (1.f - e) * guess(1.f + e);
  return 2.f * reciprocal(1.f + e) - 1.f;
}

// Room for that many numbers, all 0, at the beginning of a line of the cache.
template <typename scalar>
auto zeros(int64_t count) {
  std::unique_ptr<scalar[], decltype(&std::free)> room(nullptr, std::free);
  room.reset(static_cast<scalar*>(std::aligned_alloc(64, (count * sizeof(scalar) + 63) / 64 * 64)));
  std::fill_n(room.get(), count, scalar(0.f));
  return room;
}

// Weights of both directions, [D, K, N] row-major, cut into panels of `width` columns as the product
// wants them: float32 or widened where the processor has no other product, [K, width]; bfloat16 in
// pairs of rows, [K / 2, width, 2], and of a Xeon with tiles, [K / 32, 2 tiles, 16, 16, 2].
template <typename scalar>
class Panels {
 public:
  static inline const bool native = std::is_same_v<scalar, BFloat16> && __builtin_cpu_supports("avx512bf16");
  static inline const bool by_tiles = native && tiles::available();
  const int64_t K, N, width;

  Panels(const scalar* weights, int64_t K, int64_t N, int threads)
      : K(K), N(N), width(by_tiles ? 32 : std::gcd(N, WIDTH)), room(zeros<float>(2 * K * ((N + 31) / 32 * 32))) {
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
      if (by_tiles) return tiles::multiply(rows, a, stride, panel<scalar>(d, column), K, false, sums, C, from, to, work);
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
  static void end() {  // by a thread that has done its last product
    by_tiles ? tiles::release() : blas::brgemm_release(native);
  }

 private:
  template <typename stored>
  stored* panel(int64_t d, int64_t column) const {
    return reinterpret_cast<stored*>(room.get()) + (d * ((N + width - 1) / width * width) + column) * K;
  }
  decltype(zeros<float>(0)) room;
};

// Where a block of rows of one direction lies in the tensors.
template <typename scalar>
struct Layer {
  scalar* gates[2];        // of a direction, [T, B, G], or nothing where they are neither given nor kept
  scalar* out;             // [T, B, D * H]
  float* cells;            // [D, T, B, H], or [D, 1, B, H] where only the last is wanted
  const int64_t* lengths;  // [B]
  int64_t T, B, H, cell_steps;

  scalar* gates_at(int64_t d, int64_t t, int64_t b) const { return gates[d] + (t * B + b) * 4 * H; }
  scalar* out_at(int64_t d, int64_t t, int64_t b) const { return out + (t * B + b) * 2 * H + d * H; }
  float* cells_at(int64_t d, int64_t t, int64_t b) const {
    return cells + ((d * cell_steps + (cell_steps > 1 ? t : 0)) * B + b) * H;
  }

  // Fetches UNITS of a row into the second-level cache, to be there at the next step. That lies a
  // whole batch further on, where the processor does not look by itself.
  [[gnu::always_inline]] void prefetch(int64_t d, int64_t t, int64_t b, int64_t unit, bool backward) const {
    fetch(gates_at(d, t, b) + 4 * unit, 4 * UNITS);
    if (!backward) return;
    fetch(cells_at(d, t, b) + unit, UNITS);
    fetch(out_at(d, t, b) + unit, UNITS);
  }
  template <typename stored>  // inlined: GCC drops calls of functions that do nothing else
  [[gnu::always_inline]] static void fetch(const stored* from, int64_t count) {
    for (int64_t k = 0; k < count; k += 64 / sizeof(stored)) __builtin_prefetch(from + k, 1, 2);
  }
};

// Calls work(d, first row, rows, longest) for each block, on all threads.
template <typename scalar, typename Work>
void for_each_block(const Layer<scalar>& layer, int threads, Work work) {
  const int64_t units = 2 * layer.B, rows = std::clamp<int64_t>((units + threads - 1) / threads, 1, ROWS);
  const int64_t blocks = (layer.B + rows - 1) / rows;
#pragma omp parallel num_threads(threads) firstprivate(work)
  {
#pragma omp for schedule(dynamic) nowait
    for (int64_t unit = 0; unit < 2 * blocks; unit++) {
      const int64_t first = unit / 2 * rows, count = std::min(rows, layer.B - first);
      Panels<scalar>::begin(count);
      work(unit % 2, first, count, *std::max_element(layer.lengths + first, layer.lengths + first + count));
    }
    Panels<scalar>::end();
  }
}

// UNITS of a row at a step, from the sums of their gates on: cells, gates where they are kept, and
// the output gates once more.
template <typename scalar>
[[gnu::always_inline]] inline void open(const float* sums, const float* bias, float* cell, float* kept_cell, scalar* gates,
                                        float* opened, bool ahead, bool keep) {
  for (int64_t k = 0; k < UNITS; k += LANES) {
    const auto sum = [&](int64_t gate) {
      const Floats own = load(sums + gate * UNITS + k) + load(bias + gate * UNITS + k);
      return ahead ? own + load(gates + gate * UNITS + k) : own;
    };
    const Floats i = sigmoid<scalar>(sum(0)), f = sigmoid<scalar>(sum(1)), g = hyperbolic_tangent<scalar>(sum(2)), o = sigmoid<scalar>(sum(3));
    const Floats c = f * load(cell + k) + i * g;
    store(c, cell + k), store(o, opened + k);
    if (keep) {
      stream(c, kept_cell + k), stream(i, gates + k), stream(f, gates + UNITS + k);
      stream(g, gates + 2 * UNITS + k), stream(o, gates + 3 * UNITS + k);
    }
  }
}

// A step multiplies rows of K = E + H numbers, its input and the state before it, with the weights of
// both, [D, K, G]. If E is 0, the inputs' products are in the gates. `beside` a product by tiles the
// core finishes the units of the one before; else it finishes more of them at once, after theirs.
template <typename scalar, bool beside>
void forward(const Layer<scalar>& layer, const scalar* x, int64_t E, const scalar* weights, const float* bias,
             bool keep, int threads) {
  const int64_t H = layer.H, G = 4 * H, K = (E + H + 31) / 32 * 32;
  const Panels<scalar> panels(weights, K, G, threads);
  for_each_block(layer, threads, [=, &panels](int64_t d, int64_t first, int64_t rows, int64_t longest) {
    constexpr int64_t span = beside ? UNITS : WIDTH;
    alignas(64) float sums[2][span / UNITS][ROWS][4][UNITS], opened[ROWS][span];
    auto given = zeros<scalar>(ROWS * K), following = zeros<scalar>(ROWS * K);
    const auto cells = zeros<float>(ROWS * H);
    for (int64_t step = 0; step < longest; step++) {
      const int64_t t = d ? longest - 1 - step : step, next = d ? t - 1 : t + 1;
      for (int64_t r = 0; r < rows; r++) std::copy_n(x + (t * layer.B + first + r) * E, E, given.get() + r * K);
      scalar *const gates = layer.gates_at(d, t, first), *const state = following.get() + E;
      float *const cell = cells.get(), *const kept_cell = layer.cells_at(d, t, first);
      const int64_t* const lengths = layer.lengths + first;
      const auto close = [=, &opened](int64_t unit, int64_t r) __attribute__((always_inline)) {
        for (int64_t k = 0; k < std::min<int64_t>(span, H - unit); k += LANES)
          store(load(opened[r] + k) * hyperbolic_tangent<scalar>(load(cell + r * H + unit + k)), state + r * K + unit + k);
      };
      const auto finish = [=, &layer, &sums, &opened](int64_t unit, int64_t r) __attribute__((always_inline)) {
        if (r > 0) close(unit, r - 1);  // by then its cells are there
        for (int64_t k = 0; k < std::min<int64_t>(span, H - unit); k += UNITS) {
          if (E == 0) layer.prefetch(d, next, first + r, unit + k, false);
          if (t < lengths[r]) {
            open(sums[unit / span % 2][k / UNITS][r][0], bias + d * G + 4 * (unit + k), cell + r * H + unit + k,
                 kept_cell + r * H + unit + k, gates + r * G + 4 * (unit + k), opened[r] + k, E == 0, keep);
          } else {
            std::fill_n(opened[r] + k, UNITS, 0.f);
            if (keep) std::fill_n(kept_cell + r * H + unit + k, UNITS, 0.f);
          }
        }
        if (r == rows - 1) close(unit, r);
      };
      for (int64_t unit = 0; unit < H; unit += span) {
        const int64_t due = beside && unit > 0 ? rows : 0;
        for (int64_t k = 0; k < std::min<int64_t>(span, H - unit); k += UNITS)
          for (int64_t n = 0; n < WIDTH; n += panels.width)
            panels.multiply(rows, given.get(), K, d, 4 * (unit + k) + n, WIDTH, **sums[unit / span % 2][k / UNITS] + n,
                            due * n / WIDTH, due * (n + panels.width) / WIDTH,
                            [=](int64_t r) __attribute__((always_inline)) { finish(unit - span, r); });
        for (int64_t r = 0; r < rows && !beside; r++) finish(unit, r);
      }
      for (int64_t r = 0; r < rows && beside; r++) finish(H - span, r);
      for (int64_t r = 0; r < rows; r++) std::copy_n(state + r * K, H, layer.out_at(d, t, first + r));
      std::swap(given, following);
    }
    for (int64_t t = longest; t < layer.T; t++)
      for (int64_t r = 0; r < rows; r++) std::fill_n(layer.out_at(d, t, first + r), H, scalar(0.f));
  });
}

// UNITS of a row at a step, from their gates to the gradients of the gates' sums.
template <typename scalar>
[[gnu::always_inline]] inline void differentiate(const scalar* from_above, const float* from_after, const float* cell, const float* last,
                                                 float* carry, scalar* gates) {
  for (int64_t k = 0; k < UNITS; k += LANES) {
    const Floats i = load(gates + k), f = load(gates + UNITS + k);
    const Floats g = load(gates + 2 * UNITS + k), o = load(gates + 3 * UNITS + k);
    const Floats squashed = hyperbolic_tangent<scalar>(load(cell + k));
    const Floats dh = load(from_above + k) + load(from_after + k);
    const Floats dc = load(carry + k) + dh * o * (1.f - squashed * squashed);
    store(dc * f, carry + k);
    store(dc * g * i * (1.f - i), gates + k);
    store(dc * load(last + k) * f * (1.f - f), gates + UNITS + k);
    store(dc * i * (1.f - g * g), gates + 2 * UNITS + k);
    store(dh * squashed * o * (1.f - o), gates + 3 * UNITS + k);
  }
}

// Turns the gates into the gradients of their sums, in place.
template <typename scalar, bool beside>
void backward(const Layer<scalar>& layer, const scalar* weights, int threads) {
  const int64_t H = layer.H, G = 4 * H;
  const Panels<scalar> panels(weights, G, H, threads);
  for_each_block(layer, threads, [=, &panels](int64_t d, int64_t first, int64_t rows, int64_t longest) {
    const int64_t width = panels.width;
    alignas(64) float sums[2][ROWS][WIDTH] = {};
    const auto none = zeros<float>(ROWS * H), carried = zeros<float>(ROWS * H);
    for (int64_t t = longest; t < layer.T; t++) std::fill_n(layer.gates_at(d, t, first), rows * G, scalar(0.f));
    for (int64_t step = longest - 1; step >= 0; step--) {
      const int64_t t = d ? longest - 1 - step : step, before = d ? t + 1 : t - 1, after = d ? t - 1 : t + 1;
      scalar *const gates = layer.gates_at(d, t, first), *const from_above = layer.out_at(d, t, first);
      const float* const cell = layer.cells_at(d, t, first);
      const float* const last = step > 0 ? layer.cells_at(d, before, first) : none.get();
      float* const carry = carried.get();
      const int64_t* const lengths = layer.lengths + first;
      const auto finish = [=, &layer, &sums](int64_t column, int64_t r) __attribute__((always_inline)) {
        for (int64_t unit = column; unit < std::min(column + width, H); unit += UNITS) {
          layer.prefetch(d, before, first + r, unit, true);
          if (t < lengths[r])
            differentiate(from_above + r * 2 * H + unit, sums[column / width % 2][r] + unit - column, cell + r * H + unit, last + r * H + unit,
                          carry + r * H + unit, gates + r * G + 4 * unit);
          else
            std::fill_n(gates + r * G + 4 * unit, 4 * UNITS, scalar(0.f));
        }
      };
      for (int64_t column = 0; column < H; column += width) {
        const int64_t due = beside && column > 0 ? rows : 0;
        if (step < longest - 1)
          panels.multiply(rows, layer.gates_at(d, after, first), G, d, column, WIDTH, *sums[column / width % 2], 0, due,
                          [=](int64_t r) __attribute__((always_inline)) { finish(column - width, r); });
        else
          for (int64_t r = 0; r < due; r++) finish(column - width, r);
        for (int64_t r = 0; r < rows && !beside; r++) finish(column, r);
      }
      for (int64_t r = 0; r < rows && beside; r++) finish((H - 1) / width * width, r);
    }
  });
}

// The gradients of all weights of both directions, [D, E + H + 1, G]: products over all N = T B tokens of
// their input, the state before it and 1 (for the bias) with the gradients of the gates' sums.
void differentiate_weights(const BFloat16* x, const BFloat16* out, const BFloat16* const gates[2], BFloat16* gradients,
                           int64_t N, int64_t B, int64_t E, int64_t H, int threads) {
  constexpr int64_t TERMS = 512, STRIDE = TERMS + 32;  // of a piece of N; its rows in different sets of the cache
  const int64_t G = 4 * H, M = E + H + 1, high = (M + 31) / 32 * 32;
  int64_t width = (G + 31) / 32 * 32;
  while (width > 32 && 2 * ((G + width - 1) / width) < threads) width = (width / 2 + 31) / 32 * 32;
#pragma omp parallel num_threads(threads)
  {
    tiles::configure(32);
    const auto left = zeros<BFloat16>(high * STRIDE), right = zeros<BFloat16>(TERMS * width);
    const auto sums = zeros<float>(high * width);
    std::fill_n(left.get() + (E + H) * STRIDE, TERMS, BFloat16(1.f));
#pragma omp for schedule(dynamic) collapse(2)
    for (int64_t d = 0; d < 2; d++)
      for (int64_t column = 0; column < G; column += width) {
        const int64_t columns = std::min(width, G - column);
        for (int64_t n = 0; n < N; n += TERMS) {
          const int64_t terms = std::min(TERMS, (N - n + 31) / 32 * 32);
          // Transposes `count` columns of the rows that stand `shift` after these, 0 where there are none.
          const auto take = [&](const BFloat16* from, int64_t stride, int64_t count, int64_t shift, BFloat16* to) {
            for (int64_t k = 0; k < terms; k += 32) {
              const int64_t row = n + k + shift, begin = std::clamp<int64_t>(-row, 0, 32), end = std::clamp<int64_t>(N - row, 0, 32);
              for (int64_t m = 0; end - begin < 32 && m < count; m++) std::fill_n(to + m * STRIDE + k, 32, BFloat16(0.f));
              if (begin < end)
                fbgemm::transpose_simd(end - begin, count, reinterpret_cast<const uint16_t*>(from + (row + begin) * stride), stride,
                                       reinterpret_cast<uint16_t*>(to + k + begin), STRIDE);
            }
          };
          take(x, E, E, 0, left.get());
          take(out + d * H, 2 * H, H, d ? B : -B, left.get() + E * STRIDE);
          for (int64_t k = 0; k < terms; k += 32)
            tiles::pack(gates[d] + (n + k) * G + column, G, N - n - k, columns, right.get() + k * 32, 32 * TERMS);
          for (int64_t m = 0; m < high; m += 32)
            for (int64_t c = 0; c < columns; c += 32) {
              float* const block = sums.get() + m * width + c * 32;
              const BFloat16* const below = left.get() + (m + 32 + c / 32 % 32) * STRIDE;
              tiles::multiply(32, left.get() + m * STRIDE, STRIDE, right.get() + c * TERMS, terms, n > 0, block, 32, 0,
                              16, [=](int64_t line) __attribute__((always_inline)) {
                                __builtin_prefetch(below + 32 * line, 0, 2);
                                for (int64_t k = 0; k < 64; k += 16) __builtin_prefetch(block + 1024 + 64 * line + k, 1, 3);
                              });
            }
        }
        for (int64_t m = 0; m < M; m++)
          for (int64_t c = 0; c < columns; c += LANES)
            store(load(sums.get() + m / 32 * 32 * width + c / 32 * 1024 + m % 32 * 32 + c % 32), gradients + (d * M + m) * G + column + c);
      }
    tiles::release();
  }
}

// to[column, row] = from[row, column].
template <typename scalar>
void transpose(const scalar* from, scalar* to, int64_t rows, int64_t columns, int64_t from_stride, int64_t to_stride,
               int threads) {
  using bits = std::conditional_t<sizeof(scalar) == 2, uint16_t, float>;
  const auto* source = reinterpret_cast<const bits*>(from);
#pragma omp parallel for num_threads(threads)
  for (int64_t row = 0; row < rows; row += WIDTH)
    fbgemm::transpose_simd(std::min(WIDTH, rows - row), columns, source + row * from_stride, from_stride,
                           reinterpret_cast<bits*>(to) + row, to_stride);
}

}  // namespace

#define LSTM_LAYER(name, scalar)                                                                                   \
  extern "C" void lstm_forward_##name(const scalar* x, scalar* right, scalar* left, const scalar* weights,         \
                                      const float* bias, scalar* out, float* cells, const int64_t* lengths,        \
                                      int64_t T, int64_t B, int64_t E, int64_t H, int64_t keep, int threads) {     \
    (Panels<scalar>::by_tiles ? forward<scalar, true> : forward<scalar, false>)({{right, left}, out, cells, lengths, T, B, H, keep ? T : 1}, x, E, weights, bias, keep,        \
                    threads);                                                                                      \
  }                                                                                                                \
  extern "C" void lstm_backward_##name(scalar* right, scalar* left, const scalar* weights, scalar* gradient,       \
                                       float* cells, const int64_t* lengths, int64_t T, int64_t B, int64_t H,      \
                                       int threads) {                                                              \
    (Panels<scalar>::by_tiles ? backward<scalar, true> : backward<scalar, false>)({{right, left}, gradient, cells, lengths, T, B, H, T}, weights, threads);                     \
  }                                                                                                                \
  extern "C" void lstm_transpose_##name(const scalar* from, scalar* to, int64_t rows, int64_t columns,             \
                                        int64_t from_stride, int64_t to_stride, int threads) {                     \
    transpose(from, to, rows, columns, from_stride, to_stride, threads);                                           \
  }
LSTM_LAYER(float32, float)
LSTM_LAYER(bfloat16, BFloat16)
extern "C" bool lstm_by_tiles() { return tiles::available(); }
extern "C" void lstm_weights_bfloat16(const BFloat16* x, const BFloat16* out, const BFloat16* right, const BFloat16* left,
                                      BFloat16* gradients, int64_t N, int64_t B, int64_t E, int64_t H, int threads) {
  const BFloat16* const gates[] = {right, left};
  differentiate_weights(x, out, gates, gradients, N, B, E, H, threads);
}
