import json
import os
from multiprocessing import util

import digits
import tensorflow as tf

per_worker_batch_size = 16
tf_config = json.loads(os.environ["TF_CONFIG"])
num_workers = len(tf_config["cluster"]["worker"])
global_batch_size = per_worker_batch_size * num_workers

num_epochs = 3
num_steps_per_epoch = 20

checkpoint_dir = os.path.join(util.get_temp_dir(), "ckpt")

strategy = tf.distribute.MultiWorkerMirroredStrategy()

with strategy.scope():
    model = digits.build_model()
    dataset = strategy.distribute_datasets_from_function(
        lambda input_context: digits.dataset_fn(global_batch_size, input_context)
    )
    optimizer = tf.keras.optimizers.RMSprop(learning_rate=0.002)
    train_accuracy = tf.keras.metrics.SparseCategoricalAccuracy(name="train_accuracy")


@tf.function
def train_step(iterator):
    def step_fn(inputs):
        x, y = inputs
        with tf.GradientTape() as tape:
            predictions = model(x, training=True)
            per_example_loss = tf.keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="none"
            )(y, predictions)
            loss = tf.nn.compute_average_loss(per_example_loss)
            if model.losses:
                loss += tf.nn.scale_regularization_loss(tf.add_n(model.losses))
        grads = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
        train_accuracy.update_state(y, predictions)
        return loss

    per_replica_losses = strategy.run(step_fn, args=(next(iterator),))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica_losses, axis=None)


epoch = tf.Variable(tf.constant(0, dtype=tf.dtypes.int64), name="epoch")
step_in_epoch = tf.Variable(tf.constant(0, dtype=tf.dtypes.int64), name="step_in_epoch")

task_type = strategy.cluster_resolver.task_type
task_id = strategy.cluster_resolver.task_id
cluster_spec = strategy.cluster_resolver.cluster_spec()
is_chief = (
    task_type is None
    or task_type == "chief"
    or (task_type == "worker" and task_id == 0 and "chief" not in cluster_spec.as_dict())
)

checkpoint = tf.train.Checkpoint(model=model, epoch=epoch, step_in_epoch=step_in_epoch)
write_dir = checkpoint_dir
if not is_chief:
    write_dir = os.path.join(os.path.dirname(checkpoint_dir), f"workertemp_{task_id}", "ckpt")
    tf.io.gfile.makedirs(write_dir)
manager = tf.train.CheckpointManager(checkpoint, directory=write_dir, max_to_keep=1)

latest_checkpoint = tf.train.latest_checkpoint(checkpoint_dir)
if latest_checkpoint:
    checkpoint.restore(latest_checkpoint)

while epoch.numpy() < num_epochs:
    iterator = iter(dataset)
    total_loss = 0.0
    while step_in_epoch.numpy() < num_steps_per_epoch:
        total_loss += train_step(iterator)
        step_in_epoch.assign_add(1)
    accuracy = float(train_accuracy.result())
    print(f"Epoch: {epoch.numpy()}, accuracy: {accuracy}, loss: {total_loss / 20}.")
    train_accuracy.reset_state()
    manager.save()
    if not is_chief:
        tf.io.gfile.rmtree(write_dir)
    epoch.assign_add(1)
    step_in_epoch.assign(0)

print(json.dumps({"workers": num_workers, "accuracy": accuracy}))
