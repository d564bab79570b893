// One bidirectional LSTM layer on a CPU, forward and backward, called from kernel.py.
//
// Rows of a batch do not depend on each other, so a thread takes a block of rows of one direction
// through all time steps without waiting for another. A step of a block is a small product with the
// recurrent weights, which stay in the thread's own cache, and one pass over its sums. Both
// directions meet a review's tokens where they stand: the right-to-left one begins at the longest
// row's end, and a row joins in at its own last token.
//
// T time, B batch, D direction (0 left to right, 1 right to left), H hidden size, G = 4H gates in
// PyTorch's order: input, forget, cell candidate, output.

#include <ATen/native/CPUBlas.h>
#include <fbgemm/Utils.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <type_traits>

namespace {

using at::BFloat16;
namespace blas = at::native::cpublas;

constexpr int64_t ROWS = 32;   // of a block: as many as fill the matrix units of a core
constexpr int64_t WIDTH = 64;  // most columns of a panel: what oneDNN packs at once

int64_t panel_width(int64_t hidden) {
  for (int64_t width : {WIDTH, int64_t(48), int64_t(32), int64_t(16)})
    if (hidden % width == 0) return width;
  return 0;
}

inline float to_float(float value) { return value; }
inline float to_float(BFloat16 value) { return std::bit_cast<float>(uint32_t(value.x) << 16); }
inline void store(float value, float& to) { to = value; }
inline void store(float value, BFloat16& to) {  // to nearest, ties to even
  const auto bits = std::bit_cast<uint32_t>(value);
  to.x = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// 2^(x * scale), the exponent kept within 64 of 0; not a number for an x that is infinite or none.
// Sigmoids of it are within 1.1e-7, tangents within 2.1e-7. It is clamped as integers, signed above
// and unsigned below: one instruction each, of floats, which keep what is no number, several.
inline float power_of_two(float x, float scale) {
  constexpr float whole = 0x1.8p23f + 127.f;  // to add it rounds to an integer, and its exponent
  constexpr auto most = std::bit_cast<int32_t>(64.f);
  constexpr auto least = std::bit_cast<uint32_t>(-64.f);
  const int32_t bits = std::min(std::bit_cast<int32_t>(x * scale), most);
  const float y = std::bit_cast<float>(std::min(uint32_t(bits), least));
  const float shifted = y + whole, rest = y - (shifted - whole);
  float p = 1.33908634e-3f;  // through six Chebyshev points of [-1/2, 1/2]
  p = p * rest + 9.67603182e-3f;
  p = p * rest + 5.55035711e-2f;
  p = p * rest + 2.40221075e-1f;
  p = p * rest + 6.93147188e-1f;
  p = p * rest + 1.f;
  return p * std::bit_cast<float>(std::bit_cast<int32_t>(shifted) << 23) + 0.f * x;
}
constexpr float LOG2_E = 1.44269504f;
inline float sigmoid(float x) { return 1.f / (1.f + power_of_two(x, -LOG2_E)); }
inline float hyperbolic_tangent(float x) { return 2.f / (1.f + power_of_two(x, -2.f * LOG2_E)) - 1.f; }

// Weights of both directions, [D, K, N] row-major, cut into panels of `width` columns and laid out
// as the product wants them. Where the processor does not multiply bfloat16, they are widened.
template <typename scalar>
class Panels {
 public:
  Panels(const scalar* weights, int64_t K, int64_t N, int64_t width)
      : K(K), N(N), width(width), values(static_cast<float*>(std::aligned_alloc(64, 2 * K * N * sizeof(float)))) {
    for (int64_t d = 0; d < 2; d++)
      for (int64_t column = 0; column < N; column += width) {
        const scalar* from = weights + d * K * N + column;
        if constexpr (std::is_same_v<scalar, BFloat16>)
          if (native()) {
            blas::pack(K, width, N, width, at::kBFloat16, at::kBFloat16, from, panel<BFloat16>(d, column));
            continue;
          }
        float* to = panel<float>(d, column);
        for (int64_t k = 0; k < K; k++)
          for (int64_t j = 0; j < width; j++) to[k * width + j] = to_float(from[k * N + j]);
      }
  }

  // sums_RC = rows_RK (each `stride` after the one before) times C columns, from `column` on.
  void multiply(int64_t rows, const scalar* a, int64_t stride, int64_t d, int64_t column, int64_t C,
                float* sums) const {
    if constexpr (std::is_same_v<scalar, BFloat16>) {
      if (!native()) {
        auto wide = std::make_unique<float[]>(rows * K);
        for (int64_t r = 0; r < rows; r++)
          for (int64_t k = 0; k < K; k++) wide[r * K + k] = to_float(a[r * stride + k]);
        multiply_as<float>(rows, wide.get(), K, d, column, C, sums, false);
        return;
      }
    }
    multiply_as<scalar>(rows, a, stride, d, column, C, sums, native());
  }

  // A thread gives the matrix units back when it has done its last product.
  static void release() { blas::brgemm_release(native()); }

 private:
  struct Free { void operator()(float* memory) const { std::free(memory); } };

  static bool native() {
    static const bool could = std::is_same_v<scalar, BFloat16> && blas::could_pack(at::kBFloat16) &&
                              __builtin_cpu_supports("avx512bf16");
    return could;
  }
  template <typename stored>
  void multiply_as(int64_t rows, const stored* a, int64_t stride, int64_t d, int64_t column, int64_t C, float* sums,
                   bool packed) const {
    for (int64_t c = 0; c < C; c += width)
      blas::brgemm(rows, width, K, stride, width, C, false, a, panel<stored>(d, column + c), sums + c, packed);
  }
  template <typename stored>
  stored* panel(int64_t d, int64_t column) const {
    return reinterpret_cast<stored*>(values.get()) + (d * N + column) * K;
  }

  int64_t K, N, width;
  std::unique_ptr<float, Free> values;
};

// Where a block of rows of one direction lies in the tensors.
template <typename scalar>
struct Layer {
  scalar* gates;           // [D, T, B, G]
  scalar* out;             // [T, B, D * H]
  float* cells;            // [D, T, B, H], or [D, 1, B, H] where only the last is wanted
  const int64_t* lengths;  // [B]
  int64_t T, B, H, cell_steps;

  scalar* gates_at(int64_t d, int64_t t, int64_t b) const { return gates + ((d * T + t) * B + b) * 4 * H; }
  scalar* out_at(int64_t d, int64_t t, int64_t b) const { return out + (t * B + b) * 2 * H + d * H; }
  float* cells_at(int64_t d, int64_t t, int64_t b) const {
    return cells + ((d * cell_steps + (cell_steps > 1 ? t : 0)) * B + b) * H;
  }

  // Fetches units of a row into the second-level cache, to be there at the next step. That lies a
  // whole batch further on, where the processor does not look by itself.
  [[gnu::always_inline]] void prefetch(int64_t d, int64_t t, int64_t b, int64_t unit, int64_t units) const {
    if (t < 0 || t >= T) return;
    for (int64_t gate = 0; gate < 4; gate++) fetch(gates_at(d, t, b) + gate * H + unit, units);
    fetch(cells_at(d, t, b) + unit, units);
    fetch(out_at(d, t, b) + unit, units);
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
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(dynamic) nowait
    for (int64_t unit = 0; unit < 2 * blocks; unit++) {
      const int64_t first = unit / 2 * rows, count = std::min(rows, layer.B - first);
      work(unit % 2, first, count, *std::max_element(layer.lengths + first, layer.lengths + first + count));
    }
    Panels<scalar>::release();
  }
}

template <typename scalar>
void forward(const Layer<scalar>& layer, const scalar* weights, const float* bias, bool keep_gates, int threads) {
  const int64_t H = layer.H, width = panel_width(H);
  const Panels<scalar> panels(weights, H, 4 * H, width);
  for_each_block(layer, threads, [&](int64_t d, int64_t first, int64_t rows, int64_t longest) {
    alignas(64) float sums[4][ROWS * WIDTH] = {};
    const auto zeros = std::make_unique<float[]>(H);
    for (int64_t step = 0; step < longest; step++) {
      const int64_t t = d ? longest - 1 - step : step, before = d ? t + 1 : t - 1, next = d ? t - 1 : t + 1;
      for (int64_t column = 0; column < H; column += width) {
        for (int64_t gate = 0; gate < 4 && step > 0; gate++)
          panels.multiply(rows, layer.out_at(d, before, first), 2 * H, d, gate * H + column, width, sums[gate]);
        for (int64_t r = 0; r < rows; r++) {
          scalar* hidden = layer.out_at(d, t, first + r) + column;
          float* cell = layer.cells_at(d, t, first + r) + column;
          if (t >= layer.lengths[first + r]) {
            std::fill_n(hidden, width, scalar(0.f)), std::fill_n(cell, width, 0.f);
            continue;
          }
          const float* last = step > 0 ? layer.cells_at(d, before, first + r) + column : zeros.get();
          scalar* gates = layer.gates_at(d, t, first + r) + column;
          layer.prefetch(d, next, first + r, column, width);
          const float *si = sums[0] + r * width, *sf = sums[1] + r * width;
          const float *sg = sums[2] + r * width, *so = sums[3] + r * width;
          const float* b = bias + d * 4 * H + column;
#pragma omp simd
          for (int64_t k = 0; k < width; k++) {
            const float i = sigmoid(si[k] + b[k] + to_float(gates[k]));
            const float f = sigmoid(sf[k] + b[H + k] + to_float(gates[H + k]));
            const float g = hyperbolic_tangent(sg[k] + b[2 * H + k] + to_float(gates[2 * H + k]));
            const float o = sigmoid(so[k] + b[3 * H + k] + to_float(gates[3 * H + k]));
            const float c = f * last[k] + i * g;
            cell[k] = c;
            store(o * hyperbolic_tangent(c), hidden[k]);
            if (keep_gates) {
              store(i, gates[k]), store(f, gates[H + k]);
              store(g, gates[2 * H + k]), store(o, gates[3 * H + k]);
            }
          }
        }
      }
    }
    for (int64_t t = longest; t < layer.T; t++)
      for (int64_t r = 0; r < rows; r++) std::fill_n(layer.out_at(d, t, first + r), H, scalar(0.f));
  });
}

// Turns the gates into the gradients of their sums, in place.
template <typename scalar>
void backward(const Layer<scalar>& layer, const scalar* weights, int threads) {
  const int64_t H = layer.H, G = 4 * H;
  const Panels<scalar> panels(weights, G, H, panel_width(H));
  for_each_block(layer, threads, [&](int64_t d, int64_t first, int64_t rows, int64_t longest) {
    const auto zeros = std::make_unique<float[]>(H), sums = std::make_unique<float[]>(rows * H);
    const auto carried = std::make_unique<float[]>(rows * H);
    for (int64_t t = longest; t < layer.T; t++)
      std::fill_n(layer.gates_at(d, t, first), rows * G, scalar(0.f));
    for (int64_t step = longest - 1; step >= 0; step--) {
      const int64_t t = d ? longest - 1 - step : step, before = d ? t + 1 : t - 1, after = d ? t - 1 : t + 1;
      if (step < longest - 1) panels.multiply(rows, layer.gates_at(d, after, first), G, d, 0, H, sums.get());
      for (int64_t r = 0; r < rows; r++) {
        scalar* gates = layer.gates_at(d, t, first + r);
        if (t >= layer.lengths[first + r]) {
          std::fill_n(gates, G, scalar(0.f));
          continue;
        }
        layer.prefetch(d, before, first + r, 0, H);
        const scalar* from_above = layer.out_at(d, t, first + r);
        const float* cell = layer.cells_at(d, t, first + r);
        const float* last = step > 0 ? layer.cells_at(d, before, first + r) : zeros.get();
        const float* from_after = sums.get() + r * H;
        float* carry = carried.get() + r * H;
#pragma omp simd
        for (int64_t k = 0; k < H; k++) {
          const float i = to_float(gates[k]), f = to_float(gates[H + k]);
          const float g = to_float(gates[2 * H + k]), o = to_float(gates[3 * H + k]);
          const float squashed = hyperbolic_tangent(cell[k]);
          const float dh = to_float(from_above[k]) + from_after[k];
          const float dc = carry[k] + dh * o * (1.f - squashed * squashed);
          carry[k] = dc * f;
          store(dc * g * i * (1.f - i), gates[k]);
          store(dc * last[k] * f * (1.f - f), gates[H + k]);
          store(dc * i * (1.f - g * g), gates[2 * H + k]);
          store(dh * squashed * o * (1.f - o), gates[3 * H + k]);
        }
      }
    }
  });
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
  extern "C" void lstm_forward_##name(scalar* gates, const scalar* weights, const float* bias, scalar* out,        \
                                      float* cells, const int64_t* lengths, int64_t T, int64_t B, int64_t H,       \
                                      int64_t keep, int threads) {                                                 \
    forward<scalar>({gates, out, cells, lengths, T, B, H, keep ? T : 1}, weights, bias, keep, threads);            \
  }                                                                                                                \
  extern "C" void lstm_backward_##name(scalar* gates, const scalar* weights, const scalar* gradient, float* cells, \
                                       const int64_t* lengths, int64_t T, int64_t B, int64_t H, int threads) {     \
    backward<scalar>({gates, const_cast<scalar*>(gradient), cells, lengths, T, B, H, T}, weights, threads);        \
  }                                                                                                                \
  extern "C" void lstm_transpose_##name(const scalar* from, scalar* to, int64_t rows, int64_t columns,             \
                                        int64_t from_stride, int64_t to_stride, int threads) {                     \
    transpose(from, to, rows, columns, from_stride, to_stride, threads);                                           \
  }
LSTM_LAYER(float32, float)
LSTM_LAYER(bfloat16, BFloat16)
