"""The ring: adds up gradients between workers without GPUs, in TensorFlow's stead.

TensorFlow reduces over gRPC, which on processors costs several times what the bytes need. Here
the members of a group are joined by plain sockets in a ring, and a small native library adds up
what MultiWorkerMirroredStrategy gives it. Where that library, or what it needs of TensorFlow, is
not there, TensorFlow reduces as it always does; all members do the same.
"""
