/* Adds arrays of the types that TensorFlow's collectives take. */
#ifndef TAAS_RING_ADD_H
#define TAAS_RING_ADD_H

#include <stddef.h>
#include <stdint.h>

/* Add `count` elements of `from` to those of `to`; see enum ring_dtype. Integers wrap. The two
 * 16-bit types are added in 32 bits and rounded to the nearest, ties to even. */
void ring_add(uint32_t dtype, void *to, const void *from, size_t count);

#endif
