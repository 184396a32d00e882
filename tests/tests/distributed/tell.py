"""A host's service that tells of changes, with the package `cloudevents` and pika: knows nothing of Fides.

tell.py http URL SECRET structured|binary ID...        posts an event for each id; prints the status of each answer
tell.py declare AMQP_URL EXCHANGE                      makes the exchange
tell.py amqp AMQP_URL EXCHANGE structured|binary ID... publishes an event for each id
tell.py raw AMQP_URL EXCHANGE CONTENT_TYPE BODY...     publishes bodies that may be no events
tell.py dead AMQP_URL QUEUE                            prints the reasons of what a queue holds, a line each, and keeps it
tell.py delete AMQP_URL EXCHANGE QUEUE...              removes all of it
"""

import hashlib
import hmac
import sys
import urllib.error
import urllib.request

from cloudevents.core.bindings import amqp, http
from cloudevents.core.v1.event import CloudEvent


def event(key):
    attributes = {"id": f"event-{key}", "source": "/shop", "type": "shop.item.changed", "subject": key, "specversion": "1.0"}
    return CloudEvent(attributes=attributes, data={"item": {"id": int(key)}})


def post(url, secret, mode, keys):
    write = {"structured": http.to_structured_event, "binary": http.to_binary_event}[mode]
    for key in keys:
        message = write(event(key))
        signature = hmac.new(secret.encode(), message.body, hashlib.sha256).hexdigest()
        headers = {**message.headers, "X-Signature-256": f"sha256={signature}"}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, message.body, headers), timeout=60) as answer:
                print(answer.status)
        except urllib.error.HTTPError as error:
            print(error.code, error.read().decode().strip())


def broker(what, url, name, *rest):
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()

    def publish(body, content_type, headers=None):
        properties = pika.BasicProperties(content_type=content_type, headers=headers, delivery_mode=2)
        channel.basic_publish(name, "shop.item", body, properties, mandatory=True)

    if what == "declare":
        channel.exchange_declare(name, "topic", durable=True)
    elif what == "amqp":
        write = {"structured": amqp.to_structured_event, "binary": amqp.to_binary_event}[rest[0]]
        for key in rest[1:]:
            message = write(event(key))
            properties = message.properties
            publish(message.application_data, properties.get("content-type"), dict(message.application_properties))
    elif what == "raw":
        for body in rest[1:]:
            publish(body.encode(), rest[0] or None)
    elif what == "dead":
        while True:
            method, properties, _ = channel.basic_get(name)
            if method is None:
                break
            print(properties.headers["x-fides-reason"])
    elif what == "delete":
        channel.exchange_delete(name)
        for queue in rest:
            channel.queue_delete(queue)
    connection.close()


if sys.argv[1] == "http":
    post(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
else:
    broker(*sys.argv[1:])
