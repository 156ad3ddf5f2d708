"""librdkafka's mock cluster in a process of its own: prints where its brokers listen, and stays."""

from __future__ import annotations

import time

from confluent_kafka import Producer

cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 3, "log_level": 0})
brokers = cluster.list_topics(timeout=10).brokers.values()
print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
while True:
    time.sleep(60)
