"""Sends one command, read from stdin, and prints its answer: what docs/admin.md shows, with a deadline."""

import sys
import uuid

import pika

url, queue, deadline_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
body = sys.stdin.buffer.read()
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.confirm_delivery()
answers = channel.queue_declare("", exclusive=True).method.queue
correlation_id = str(uuid.uuid4())
channel.basic_publish(
    exchange="",
    routing_key=queue,
    body=body,
    properties=pika.BasicProperties(reply_to=answers, correlation_id=correlation_id, delivery_mode=2),
    mandatory=True,
)
for method, properties, answer in channel.consume(answers, auto_ack=True, inactivity_timeout=deadline_s):
    if method is None:
        sys.exit(f"no answer within {deadline_s} s")
    if properties.correlation_id == correlation_id:
        print(answer.decode())
        break
connection.close()
