#include "add.h"

#include <string.h>

#include "engine.h"

static float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static uint32_t as_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static float from_bfloat16(uint16_t half) { return as_float((uint32_t)half << 16); }

static uint16_t to_bfloat16(float value) {
  uint32_t bits = as_bits(value);
  if (value != value) return (uint16_t)(bits >> 16 | 0x40); /* Rounding could make it infinite. */
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_half(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
  if (rest >= 0x7c00) return as_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  /* The exponents differ by 112; multiplying also brings what has none into shape. */
  return as_float(as_bits(as_float(rest << 13) * 0x1p112f) | sign);
}

static uint16_t to_half(float value) {
  uint32_t bits = as_bits(value), sign = bits >> 16 & 0x8000;
  uint32_t rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (rest >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
  if (rest < 0x38800000) /* Below the least exponent: the sum has the right bits at its end. */
    return (uint16_t)(sign | (as_bits(as_float(rest) + 0.5f) - as_bits(0.5f)));
  rest -= 112u << 23;
  return (uint16_t)(sign | (rest + 0xfff + (rest >> 13 & 1)) >> 13);
}

#define ADD(type)                                               \
  do {                                                          \
    type *restrict t = to;                                      \
    const type *restrict f = from;                              \
    for (size_t i = 0; i < count; i++) t[i] = (type)(t[i] + f[i]); \
  } while (0)

#define ADD_BY(read, write)                                                        \
  do {                                                                             \
    uint16_t *restrict t = to;                                                     \
    const uint16_t *restrict f = from;                                             \
    for (size_t i = 0; i < count; i++) t[i] = write(read(t[i]) + read(f[i]));      \
  } while (0)

void ring_add(uint32_t dtype, void *to, const void *from, size_t count) {
  switch (dtype) {
    case RING_FLOAT:
      ADD(float);
      break;
    case RING_DOUBLE:
      ADD(double);
      break;
    case RING_INT32:
      ADD(uint32_t);
      break;
    case RING_INT64:
      ADD(uint64_t);
      break;
    case RING_BFLOAT16:
      ADD_BY(from_bfloat16, to_bfloat16);
      break;
    case RING_HALF:
      ADD_BY(from_half, to_half);
      break;
  }
}
