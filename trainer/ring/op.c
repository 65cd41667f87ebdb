/* The operation TaasAllReduce: adds tensors up over the ring of this process.
 *
 * Speaks TensorFlow's C interface, which is stable over its versions, and finds it in the process
 * when it is loaded: to build this takes no TensorFlow. Where something of the interface is
 * missing the operation does not exist, and that is how Python sees it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { OK = 0, INVALID_ARGUMENT = 3, ABORTED = 10, INTERNAL = 13 };

/* The inputs: which reduction it is, what orders it, and then the tensors. */
enum { INSTANCE = 0, TOKEN = 1, TENSORS = 2 };

/* name, type of the result, arguments */
#define INTERFACE(F)                                                                         \
  F(TF_NewStatus, void *, (void))                                                            \
  F(TF_DeleteStatus, void, (void *))                                                         \
  F(TF_SetStatus, void, (void *, int, const char *))                                         \
  F(TF_GetCode, int, (const void *))                                                         \
  F(TF_DeleteTensor, void, (void *))                                                         \
  F(TF_TensorData, void *, (const void *))                                                   \
  F(TF_TensorByteSize, size_t, (const void *))                                               \
  F(TF_NumDims, int, (const void *))                                                         \
  F(TF_Dim, int64_t, (const void *, int))                                                    \
  F(TF_NewOpDefinitionBuilder, void *, (const char *))                                       \
  F(TF_OpDefinitionBuilderAddAttr, void, (void *, const char *))                             \
  F(TF_OpDefinitionBuilderAddInput, void, (void *, const char *))                            \
  F(TF_OpDefinitionBuilderAddOutput, void, (void *, const char *))                           \
  F(TF_OpDefinitionBuilderSetIsStateful, void, (void *, bool))                               \
  F(TF_OpDefinitionBuilderSetShapeInferenceFunction, void,                                   \
    (void *, void (*)(void *, void *)))                                                      \
  F(TF_RegisterOpDefinition, void, (void *, void *))                                         \
  F(TF_ShapeInferenceContextNumInputs, int64_t, (void *))                                    \
  F(TF_NewShapeHandle, void *, (void))                                                       \
  F(TF_DeleteShapeHandle, void, (void *))                                                    \
  F(TF_ShapeInferenceContextGetInput, void, (void *, int, void *, void *))                   \
  F(TF_ShapeInferenceContextSetOutput, void, (void *, int, void *, void *))                  \
  F(TF_NewKernelBuilder, void *,                                                             \
    (const char *, const char *, void *(*)(void *), void (*)(void *, void *),                \
     void (*)(void *)))                                                                      \
  F(TF_RegisterKernelBuilder, void, (const char *, void *, void *))                          \
  F(TF_OpKernelConstruction_GetAttrInt64, void, (void *, const char *, int64_t *, void *))   \
  F(TF_OpKernelConstruction_Failure, void, (void *, void *))                                 \
  F(TF_OpKernelContext_Failure, void, (void *, void *))                                      \
  F(TF_NumOutputs, int, (void *))                                                            \
  F(TF_ExpectedOutputDataType, int, (void *, int))                                           \
  F(TF_GetInput, void, (void *, int, void **, void *))                                       \
  F(TF_ForwardInputOrAllocateOutput, void *,                                                 \
    (void *, const int *, int, int, const int64_t *, int, int *, void *))                    \
  F(TF_GetFrameId, uint64_t, (void *))                                                       \
  F(TF_GetIterId, int64_t, (void *))

static struct {
#define FIELD(name, type, arguments) type(*name) arguments;
  INTERFACE(FIELD)
} tf;

/* The ring of this process; set before the first operation runs. */
static struct ring *the_ring;

void ring_use(struct ring *ring) { the_ring = ring; }

/* One operation under way. */
struct call {
  void *context;
  sem_t ended;
  enum ring_outcome outcome;
  const char *error;
};

static void ended(void *arg, enum ring_outcome outcome, const char *error) {
  struct call *call = arg;
  call->outcome = outcome;
  call->error = error;
  sem_post(&call->ended);
}

/* Which reduction this is: the same at all members, and different for all that can be under way
 * at once. Never 0. */
static uint64_t key_of(uint64_t group, uint64_t instance, uint64_t frame, uint64_t iteration) {
  uint64_t parts[] = {group, instance, frame, iteration}, key = 0x9e3779b97f4a7c15;
  for (int i = 0; i < 4; i++) {
    key = (key ^ parts[i]) * 0xff51afd7ed558ccd;
    key ^= key >> 32;
  }
  return key ? key : 1;
}

/* Give output i the value of its input, in the same memory if nobody else needs that. Returns the
 * output, or NULL with a status. */
static void *prepare(void *context, int i, struct ring_segment *segment, void *status) {
  void *input = NULL;
  int from = i + TENSORS;
  tf.TF_GetInput(context, from, &input, status);
  if (tf.TF_GetCode(status) != OK) return NULL;
  int64_t dims[254]; /* TensorFlow's own limit. */
  int rank = tf.TF_NumDims(input), forwarded = -1;
  for (int d = 0; d < rank; d++) dims[d] = tf.TF_Dim(input, d);
  size_t bytes = tf.TF_TensorByteSize(input);
  const void *data = tf.TF_TensorData(input);
  /* The context holds the input still; what is held twice is not forwarded. */
  tf.TF_DeleteTensor(input);
  void *output =
      tf.TF_ForwardInputOrAllocateOutput(context, &from, 1, i, dims, rank, &forwarded, status);
  if (tf.TF_GetCode(status) != OK) return NULL;
  *segment = (struct ring_segment){tf.TF_TensorData(output), bytes};
  if (bytes && segment->data != data) memcpy(segment->data, data, bytes);
  return output;
}

static int32_t instance_of(void *context, void *status) {
  void *input = NULL;
  int32_t instance = 0;
  tf.TF_GetInput(context, INSTANCE, &input, status);
  if (tf.TF_GetCode(status) != OK) return 0;
  if (tf.TF_TensorByteSize(input) == sizeof instance)
    memcpy(&instance, tf.TF_TensorData(input), sizeof instance);
  else
    tf.TF_SetStatus(status, INVALID_ARGUMENT, "instance is not a scalar; give one number");
  tf.TF_DeleteTensor(input);
  return instance;
}

/* Reduce over the ring, and set a status. */
static void reduce(void *kernel, void *context, const struct ring_segment *segments, int count,
                   void *status) {
  /* UNAVAILABLE, as TensorFlow's own reductions end, it keeps for them. */
  static const int codes[] = {
      [RING_SUMMED] = OK,
      [RING_LOST] = ABORTED,
      [RING_DIFFERS] = INVALID_ARGUMENT,
      [RING_REFUSED] = INTERNAL,
  };
  int32_t instance = instance_of(context, status);
  if (tf.TF_GetCode(status) != OK) return;
  if (!the_ring) {
    tf.TF_SetStatus(status, INTERNAL, "this process is in no ring");
    return;
  }
  uint64_t key = key_of((uint64_t)(uintptr_t)kernel, (uint64_t)(uint32_t)instance,
                        tf.TF_GetFrameId(context), (uint64_t)tf.TF_GetIterId(context));
  struct call call = {0};
  sem_init(&call.ended, 0, 0);
  ring_start(the_ring, key, tf.TF_ExpectedOutputDataType(context, 0), segments, (size_t)count,
             ended, &call);
  while (sem_wait(&call.ended))
    ; /* A signal came. */
  sem_destroy(&call.ended);
  if (call.outcome != RING_SUMMED) tf.TF_SetStatus(status, codes[call.outcome], call.error);
}

static void compute(void *kernel, void *context) {
  int count = tf.TF_NumOutputs(context), made = 0;
  void *status = tf.TF_NewStatus();
  void **outputs = calloc((size_t)count, sizeof *outputs);
  struct ring_segment *segments = calloc((size_t)count, sizeof *segments);
  if (!outputs || !segments) tf.TF_SetStatus(status, INTERNAL, "out of memory");
  while (tf.TF_GetCode(status) == OK && made < count) {
    outputs[made] = prepare(context, made, &segments[made], status);
    if (outputs[made]) made++;
  }
  if (tf.TF_GetCode(status) == OK) reduce(kernel, context, segments, count, status);
  for (int i = 0; i < made; i++) tf.TF_DeleteTensor(outputs[i]);
  if (tf.TF_GetCode(status) != OK) tf.TF_OpKernelContext_Failure(context, status);
  free(outputs);
  free(segments);
  tf.TF_DeleteStatus(status);
}

/* All that a kernel knows is the number of its group. */
static void *create(void *construction) {
  int64_t group = 0;
  void *status = tf.TF_NewStatus();
  tf.TF_OpKernelConstruction_GetAttrInt64(construction, "group", &group, status);
  if (tf.TF_GetCode(status) != OK) tf.TF_OpKernelConstruction_Failure(construction, status);
  tf.TF_DeleteStatus(status);
  return (void *)(uintptr_t)group;
}

static void shapes(void *context, void *status) {
  int64_t inputs = tf.TF_ShapeInferenceContextNumInputs(context);
  for (int i = TENSORS; i < inputs && tf.TF_GetCode(status) == OK; i++) {
    void *shape = tf.TF_NewShapeHandle();
    tf.TF_ShapeInferenceContextGetInput(context, i, shape, status);
    if (tf.TF_GetCode(status) == OK)
      tf.TF_ShapeInferenceContextSetOutput(context, i - TENSORS, shape, status);
    tf.TF_DeleteShapeHandle(shape);
  }
}

static bool find_interface(void) {
  static const char *const libraries[] = {
      "libtensorflow_framework.so.2", "libtensorflow_cc.so.2", "_pywrap_tensorflow_internal.so"};
  void *handles[3];
  for (int i = 0; i < 3; i++) handles[i] = dlopen(libraries[i], RTLD_NOW | RTLD_NOLOAD);
#define FIND(name, type, arguments)                                             \
  {                                                                             \
    void *found = NULL;                                                         \
    for (int i = 0; i < 3 && !found; i++)                                       \
      if (handles[i]) found = dlsym(handles[i], #name);                         \
    if (!found) return false;                                                   \
    memcpy(&tf.name, &found, sizeof found);                                     \
  }
  INTERFACE(FIND)
  return true;
}

__attribute__((constructor)) static void define(void) {
  if (!find_interface()) return;
  void *status = tf.TF_NewStatus();
  void *op = tf.TF_NewOpDefinitionBuilder("TaasAllReduce");
  tf.TF_OpDefinitionBuilderAddInput(op, "instance: int32");
  /* Never read. All members run the operations that have it in the order of the program, so two
   * that wait for each other's other operation cannot use up the threads of TensorFlow. */
  tf.TF_OpDefinitionBuilderAddInput(op, "token: resource");
  tf.TF_OpDefinitionBuilderAddInput(op, "inputs: N * T");
  tf.TF_OpDefinitionBuilderAddOutput(op, "outputs: N * T");
  tf.TF_OpDefinitionBuilderAddAttr(op, "N: int >= 1");
  tf.TF_OpDefinitionBuilderAddAttr(op, "T: {bfloat16, half, float, double, int32, int64}");
  tf.TF_OpDefinitionBuilderAddAttr(op, "group: int");
  /* The others wait for it, whether or not this member uses the result. */
  tf.TF_OpDefinitionBuilderSetIsStateful(op, true);
  tf.TF_OpDefinitionBuilderSetShapeInferenceFunction(op, shapes);
  tf.TF_RegisterOpDefinition(op, status);
  if (tf.TF_GetCode(status) == OK)
    tf.TF_RegisterKernelBuilder(
        "TaasAllReduce", tf.TF_NewKernelBuilder("TaasAllReduce", "CPU", create, compute, NULL),
        status);
  tf.TF_DeleteStatus(status);
}
