import numpy as np
import tensorflow as tf


def dataset_fn(global_batch_size, input_context):
    batch_size = input_context.get_per_replica_batch_size(global_batch_size)
    with np.load("digits.npz") as file:
        x_train, y_train = file["x"], file["y"]
    x_train = x_train / np.float32(255)
    y_train = y_train.astype(np.int64)
    dataset = tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(1200)
    dataset = dataset.shard(input_context.num_input_pipelines, input_context.input_pipeline_id)
    return dataset.batch(batch_size)


def build_model():
    regularizer = tf.keras.regularizers.L2(1e-5)
    return tf.keras.Sequential(
        [
            tf.keras.Input(shape=(28, 28)),
            tf.keras.layers.Reshape(target_shape=(28, 28, 1)),
            tf.keras.layers.Conv2D(
                8, 3, strides=2, activation="relu", kernel_regularizer=regularizer
            ),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(32, activation="relu", kernel_regularizer=regularizer),
            tf.keras.layers.Dense(10, kernel_regularizer=regularizer),
        ]
    )
