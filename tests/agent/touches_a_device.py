"""What no module may do that a zygote imports: run an operation of TensorFlow."""

import tensorflow as tf

tf.constant(1)
