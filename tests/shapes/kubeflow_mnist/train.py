import argparse
import json
import os

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers, models


def make_datasets_unbatched():
    def scale(image, label):
        return tf.cast(image, tf.float32) / 255, label

    with np.load("digits.npz") as file:
        arrays = file["x"][..., np.newaxis], file["y"]
    dataset = tf.data.Dataset.from_tensor_slices(arrays)
    return dataset.map(scale).cache().shuffle(1200)


def build_and_compile_cnn_model():
    model = models.Sequential()
    model.add(layers.Conv2D(8, (3, 3), activation="relu", input_shape=(28, 28, 1)))
    model.add(layers.MaxPooling2D((2, 2)))
    model.add(layers.Conv2D(8, (3, 3), activation="relu"))
    model.add(layers.MaxPooling2D((2, 2)))
    model.add(layers.Flatten())
    model.add(layers.Dense(32, activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    model.summary()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def decay(epoch):
    return 5e-3 if epoch < 2 else 1e-3


def main(args):
    strategy = tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=tf.distribute.experimental.CommunicationOptions(
            implementation=tf.distribute.experimental.CollectiveCommunication.AUTO
        )
    )
    batch_size = 16 * strategy.num_replicas_in_sync

    with strategy.scope():
        ds_train = make_datasets_unbatched().batch(batch_size).repeat()
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        ds_train = ds_train.with_options(options)
        model = build_and_compile_cnn_model()

    class PrintLR(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            print(f"\nLearning rate for epoch {epoch + 1} is {model.optimizer.lr.numpy()}")

    callbacks = [
        tf.keras.callbacks.TensorBoard(log_dir="./logs"),
        tf.keras.callbacks.ModelCheckpoint(
            filepath=os.path.join(args.checkpoint_dir, "ckpt_{epoch}"), save_weights_only=True
        ),
        tf.keras.callbacks.LearningRateScheduler(decay),
        PrintLR(),
    ]
    history = model.fit(ds_train, epochs=3, steps_per_epoch=15, callbacks=callbacks)

    model_path = args.saved_model_dir
    if TASK_INDEX != 0:
        # Save to a path that is unique across workers.
        model_path += f"/worker_tmp_{TASK_INDEX}"
    model.save(model_path)
    workers = strategy.num_replicas_in_sync
    print(json.dumps({"workers": workers, "accuracy": history.history["accuracy"][-1]}))


if __name__ == "__main__":
    os.environ["NCCL_DEBUG"] = "INFO"

    tf_config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    TASK_INDEX = tf_config["task"]["index"]

    parser = argparse.ArgumentParser()
    parser.add_argument("--saved_model_dir", type=str, required=True)
    parser.add_argument("--checkpoint_dir", type=str, required=True)
    main(parser.parse_args())
