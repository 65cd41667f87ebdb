import json
import os

import digits
import tensorflow as tf

per_worker_batch_size = 32
tf_config = json.loads(os.environ["TF_CONFIG"])
num_workers = len(tf_config["cluster"]["worker"])

strategy = tf.distribute.MultiWorkerMirroredStrategy()

global_batch_size = per_worker_batch_size * num_workers
dataset = digits.digits_dataset(global_batch_size)

with strategy.scope():
    model = digits.build_and_compile_model()

model.fit(dataset, epochs=2, steps_per_epoch=15)

# Every worker saves, and what the others have saved is thrown away.
task_type = strategy.cluster_resolver.task_type
task_id = strategy.cluster_resolver.task_id
is_chief = task_type is None or (task_type == "worker" and task_id == 0)


def write_path(path):
    folder, name = os.path.split(path)
    if not is_chief:
        folder = os.path.join(folder, f"workertemp_{task_id}")
        tf.io.gfile.makedirs(folder)
    return os.path.join(folder, name)


os.makedirs("saved", exist_ok=True)
model_path = write_path("saved/model.keras")
model.save(model_path)
if not is_chief:
    tf.io.gfile.rmtree(os.path.dirname(model_path))

checkpoint = tf.train.Checkpoint(model=model)
checkpoint_dir = write_path("saved/ckpt")
manager = tf.train.CheckpointManager(checkpoint, directory=checkpoint_dir, max_to_keep=1)
saved = manager.save()
checkpoint.restore(saved)
if not is_chief:
    tf.io.gfile.rmtree(checkpoint_dir)

# The state of the training is backed up every few steps.
backup = tf.keras.callbacks.BackupAndRestore(backup_dir="backup", save_freq=5)
history = model.fit(dataset, epochs=1, steps_per_epoch=15, callbacks=[backup])
print(json.dumps({"workers": num_workers, "accuracy": history.history["accuracy"][-1]}))
