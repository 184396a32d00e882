//! The four services as processes, over real `RabbitMQ`, Redis and `PostgreSQL`, while things break. Run through
//! `tests/run`, or `tests/parts/postgres tests/parts/mariadb tests/parts/redis tests/parts/rabbitmq tests/parts/pika
//! tests/parts/cloudevents tests/parts/rotel cargo test … --test distributed`.
//!
//! `FIDES_TEST_LONG` makes the tables as large as the figures of the README speak of.

#![allow(clippy::unwrap_used)] // allow-unwrap-in-tests does not reach the functions that tests share

mod cluster;
mod collector;
mod emulator;
mod lanes;
mod proxy;
mod redis;
mod services;
mod stand;
mod until;
mod writer;

mod asks;
mod deletes;
mod failover;
mod feeds;
mod follows;
mod hears;
mod holds;
mod measured;
mod mends;
mod orders;
mod shares;
mod survives;
mod swaps;
mod told;
mod traced;
mod turns;
mod waits;
mod window;
mod workload;
