"""What a worker reads: `celery -A dagster_celery.app worker` imports it from its PYTHONPATH."""

import os

broker_url = os.environ["MNIST_BROKER_URL"]
result_backend = "disabled://"
broker_connection_retry_on_startup = True
# a broker that is gone is waited for, however long
broker_connection_max_retries = None
broker_transport_options = {"socket_connect_timeout": 5}

# a fresh process a run: it imports the pipeline as it is on disk then
worker_max_tasks_per_child = 1
# nothing is taken from the queue before a process is free for it: another worker may be
worker_prefetch_multiplier = 1
worker_disable_prefetch = True
# what a run prints goes where the worker's log goes, as it is
worker_redirect_stdouts = False
# what was begun is never begun again by Celery: Dagster decides about that
task_acks_late = False
# a run in progress goes on when the broker is gone
worker_cancel_long_running_tasks_on_connection_loss = False
