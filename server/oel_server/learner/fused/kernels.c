/* What a transformer does between its products, a row at a time, so that memory is passed over once.
 *
 * Numbers come and go as float32 or as bf16, the upper half of a float32; sums are float32. Rows are shared out in
 * one fixed way and none of them looks at another, so results do not depend on the number of threads.
 */

#include <stdint.h>

typedef uint16_t bf16;

static inline float wide(bf16 x) {
  union { uint32_t bits; float value; } one = {(uint32_t)x << 16};
  return one.value;
}

/* To nearest, ties to even. What is no number stays none: rounded up, some of those would be zeros. */
static inline bf16 narrow(float x) {
  union { float value; uint32_t bits; } one = {x};
  return x == x ? (bf16)((one.bits + 0x7fff + ((one.bits >> 16) & 1)) >> 16) : 0x7fc0;
}

/* Relative error below 2e-7; 0 below -87 and e^88 above 88, where a float32 nearly ends; nan where x is. */
static inline float exponential(float x) {
  float y = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  /* So large a number ends in the integer that is nearest; unsigned, as of a nan it is anything. */
  union { float value; uint32_t bits; } whole = {y * 1.44269504f + 12582912.0f}, scale;
  float n = whole.value - 12582912.0f;
  float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.98756915e-4f;
  p = p * r + 1.39819995e-3f;
  p = p * r + 8.33345191e-3f;
  p = p * r + 4.16657962e-2f;
  p = p * r + 1.66666655e-1f;
  p = p * r + 5.00000012e-1f;
  p = p * r * r + r + 1.0f;
  scale.bits = (whole.bits + 127) << 23;
  float found = p * scale.value;
  return x < -87.0f ? 0.0f : found;
}

/* out = x / sqrt(mean(x^2) + eps) * scale; inverse gets 1 / sqrt(...) of each row. */
void rms_norm(const float *x, const float *scale, float eps, bf16 *out, float *inverse, long rows, long size) {
#pragma omp parallel for schedule(static)
  for (long row = 0; row < rows; row++) {
    const float *from = x + row * size;
    bf16 *to = out + row * size;
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (long i = 0; i < size; i++) total += from[i] * from[i];
    float mine = 1.0f / __builtin_sqrtf(total / (float)size + eps);
    inverse[row] = mine;
#pragma omp simd
    for (long i = 0; i < size; i++) to[i] = narrow(from[i] * mine * scale[i]);
  }
}

/* With n = x inverse and g = grad scale: out = (g - n mean(g n)) inverse. */
void rms_norm_gradient(const bf16 *grad, const float *x, const float *inverse, const float *scale, float *out,
                       long rows, long size) {
#pragma omp parallel for schedule(static)
  for (long row = 0; row < rows; row++) {
    const bf16 *g = grad + row * size;
    const float *from = x + row * size;
    float *to = out + row * size;
    float mine = inverse[row], along = 0;
#pragma omp simd reduction(+ : along)
    for (long i = 0; i < size; i++) along += wide(g[i]) * scale[i] * from[i];
    along *= mine * mine / (float)size;
#pragma omp simd
    for (long i = 0; i < size; i++) to[i] = (wide(g[i]) * scale[i] - from[i] * along) * mine;
  }
}

/* Rotate the two halves of each head by angles of its row; sign -1 turns back, which is the gradient.
 * in: (rows, heads, size); cosines and sines: (angles, size), both halves alike; row r has angles r % angles. */
#define ROTATE(name, in_type, in_read, out_type, out_write)                                                        \
  void name(const in_type *in, out_type *out, const float *cosines, const float *sines, float sign, long rows,     \
            long angles, long heads, long size) {                                                                  \
    long half = size / 2;                                                                                          \
    _Pragma("omp parallel for schedule(static)") for (long row = 0; row < rows; row++) {                           \
      const float *c = cosines + (row % angles) * size, *s = sines + (row % angles) * size;                        \
      for (long head = 0; head < heads; head++) {                                                                  \
        const in_type *from = in + (row * heads + head) * size;                                                    \
        out_type *to = out + (row * heads + head) * size;                                                          \
        _Pragma("omp simd") for (long i = 0; i < half; i++) {                                                      \
          float a = in_read(from[i]), b = in_read(from[i + half]), turned = sign * s[i];                           \
          to[i] = out_write(a * c[i] - b * turned);                                                                \
          to[i + half] = out_write(b * c[i] + a * turned);                                                         \
        }                                                                                                          \
      }                                                                                                            \
    }                                                                                                              \
  }

#define AS_IT_IS(x) (x)
ROTATE(rotate_to_bf16, bf16, wide, bf16, narrow)
ROTATE(rotate_to_float, bf16, wide, float, AS_IT_IS)
ROTATE(rotate_float_to_bf16, float, AS_IT_IS, bf16, narrow)

static inline float sigmoid(float x) {
  float e = exponential(x < 0 ? x : -x);
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}

/* out = gate sigmoid(gate) up. */
void gated(const bf16 *gate, const bf16 *up, bf16 *out, long count) {
#pragma omp parallel for simd schedule(static)
  for (long i = 0; i < count; i++) {
    float g = wide(gate[i]);
    out[i] = narrow(g * sigmoid(g) * wide(up[i]));
  }
}

void gated_gradient(const bf16 *grad, const bf16 *gate, const bf16 *up, bf16 *gate_grad, bf16 *up_grad, long count) {
#pragma omp parallel for simd schedule(static)
  for (long i = 0; i < count; i++) {
    float g = wide(gate[i]), d = wide(grad[i]), s = sigmoid(g);
    up_grad[i] = narrow(d * g * s);
    gate_grad[i] = narrow(d * wide(up[i]) * s * (1.0f + g * (1.0f - s)));
  }
}

/* In place: e^x / sum of e^x. */
static inline void softened(float *x, long length) {
  float most = -__builtin_inff(), total = 0;
#pragma omp simd reduction(max : most)
  for (long i = 0; i < length; i++) most = x[i] > most ? x[i] : most;
#pragma omp simd reduction(+ : total)
  for (long i = 0; i < length; i++) {
    x[i] = exponential(x[i] - most);
    total += x[i];
  }
  float share = 1.0f / total;
#pragma omp simd
  for (long i = 0; i < length; i++) x[i] *= share;
}

/* In place: softmax over the last dimension of scores + mask.
 * scores: (states, keys, queries, groups, length); mask: (states, queries, length), its rows row_stride apart. */
void masked_softmax(bf16 *scores, const bf16 *mask, long states, long keys, long queries, long groups, long length,
                    long state_stride, long row_stride) {
  long rows = states * keys * queries * groups;
#pragma omp parallel for schedule(static)
  for (long row = 0; row < rows; row++) {
    long query = row / groups % queries, state = row / (groups * queries * keys);
    const bf16 *hidden = mask + state * state_stride + query * row_stride;
    bf16 *mine = scores + row * length;
    float values[length];
#pragma omp simd
    for (long i = 0; i < length; i++) values[i] = wide(mine[i]) + wide(hidden[i]);
    softened(values, length);
#pragma omp simd
    for (long i = 0; i < length; i++) mine[i] = narrow(values[i]);
  }
}

/* One query of each head, over what stands in a cache: out = softmax(q columns + mask) values.
 * q and out: (rows, keys, groups, size); columns: (rows, keys, size, room) and values: (rows, keys, room, size), of
 * which the first `length` of the room are taken; mask: (rows, length), its rows row_stride apart. */
void attend_newest(const bf16 *q, const bf16 *columns, const bf16 *values, const bf16 *mask, bf16 *out, long rows,
                   long keys, long groups, long size, long room, long length, long row_stride) {
#pragma omp parallel for schedule(static)
  for (long head = 0; head < rows * keys * groups; head++) {
    long key = head / groups;
    const bf16 *asked = q + head * size, *column = columns + key * size * room, *value = values + key * room * size;
    const bf16 *hidden = mask + key / keys * row_stride;
    float probs[length], taken[size];
#pragma omp simd
    for (long i = 0; i < length; i++) probs[i] = wide(hidden[i]);
    for (long d = 0; d < size; d++) {
      float one = wide(asked[d]);
#pragma omp simd
      for (long i = 0; i < length; i++) probs[i] += one * wide(column[d * room + i]);
    }
    softened(probs, length);
    for (long d = 0; d < size; d++) taken[d] = 0;
    for (long i = 0; i < length; i++) {
#pragma omp simd
      for (long d = 0; d < size; d++) taken[d] += probs[i] * wide(value[i * size + d]);
    }
#pragma omp simd
    for (long d = 0; d < size; d++) out[head * size + d] = narrow(taken[d]);
  }
}

/* A few rows times a matrix, in little more time than it takes to read the matrix; products made for many rows took
 * three times as long (docs/lab-log.md). */

enum { LANES = 16, ROWS = 8, COLUMNS = 2 }; /* so many sums at once as there are registers for */
enum { AHEAD = 2 };                         /* pairs of columns that memory is asked for before their turn */
typedef float lanes __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));

static inline float sum(lanes x) {
  typedef float eight __attribute__((vector_size(32)));
  typedef float four __attribute__((vector_size(16)));
  union { lanes all; eight half[2]; } whole = {x};
  union { eight all; four half[2]; } part = {whole.half[0] + whole.half[1]};
  four last = part.half[0] + part.half[1];
  return (last[0] + last[1]) + (last[2] + last[3]);
}

/* found[c][r] = sum over i of x[r][i] w[c][i], for all ROWS of x and the first `columns` of w. */
static inline void dots(const float *x, const bf16 *w, long size, long columns, float found[COLUMNS][ROWS]) {
  lanes total[COLUMNS][ROWS] = {0};
  const bf16 *column[COLUMNS] = {w, columns > 1 ? w + size : w};
  long whole = size / LANES * LANES;
  for (long i = 0; i < whole; i += LANES) {
    lanes mine[COLUMNS], row;
    for (int c = 0; c < COLUMNS; c++) {
      halves half;
      __builtin_memcpy(&half, column[c] + i, sizeof half);
      __builtin_prefetch(column[c] + i + AHEAD * COLUMNS * size);
      mine[c] = (lanes)(__builtin_convertvector(half, words) << 16);
    }
    for (int r = 0; r < ROWS; r++) {
      __builtin_memcpy(&row, x + r * size + i, sizeof row);
      for (int c = 0; c < COLUMNS; c++) total[c][r] += mine[c] * row;
    }
  }
  for (int c = 0; c < COLUMNS; c++)
    for (int r = 0; r < ROWS; r++) {
      found[c][r] = sum(total[c][r]);
      for (long i = whole; i < size; i++) found[c][r] += x[r * size + i] * wide(column[c][i]);
    }
}

/* out = x base' + bias + (x down') up': x (rows, size), base (outs, size), bias (outs) or null, down (rank, size) and
 * up (outs, rank) or rank 0, out (rows, outs). Each row's result is the same whatever rows stand beside it. */
void few_rows(const bf16 *x, const bf16 *base, const bf16 *bias, const bf16 *down, const bf16 *up, bf16 *out,
              long rows, long size, long outs, long rank) {
  for (long first = 0; first < rows; first += ROWS) {
    long count = rows - first < ROWS ? rows - first : ROWS;
    float mine[ROWS * size], narrowed[rank + 1][ROWS];
    for (long i = 0; i < ROWS * size; i++) mine[i] = i < count * size ? wide(x[first * size + i]) : 0.0f;
#pragma omp parallel
    {
      float found[COLUMNS][ROWS];
#pragma omp for schedule(static)
      for (long k = 0; k < rank; k += COLUMNS) {
        long columns = rank - k < COLUMNS ? rank - k : COLUMNS;
        dots(mine, down + k * size, size, columns, found);
        for (long c = 0; c < columns; c++) __builtin_memcpy(narrowed[k + c], found[c], sizeof found[c]);
      }
#pragma omp for schedule(static)
      for (long o = 0; o < outs; o += COLUMNS) {
        long columns = outs - o < COLUMNS ? outs - o : COLUMNS;
        dots(mine, base + o * size, size, columns, found);
        for (long c = 0; c < columns; c++) {
          for (long k = 0; k < rank; k++)
            for (int r = 0; r < ROWS; r++) found[c][r] += narrowed[k][r] * wide(up[(o + c) * rank + k]);
          for (long r = 0; r < count; r++)
            out[(first + r) * outs + o + c] = narrow(found[c][r] + (bias ? wide(bias[o + c]) : 0.0f));
        }
      }
    }
  }
}
