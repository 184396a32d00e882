-- A shop's own tables, which Fides only reads.
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
    id bigint PRIMARY KEY, customer_id bigint REFERENCES customers, region text NOT NULL, ordered_at timestamptz NOT NULL
);
CREATE TABLE lines (
    order_id bigint REFERENCES orders ON DELETE CASCADE, no int, sku text NOT NULL, price numeric(12,2) NOT NULL,
    PRIMARY KEY (order_id, no)
);
INSERT INTO customers SELECT i, 'Customer ' || i FROM generate_series(1, 100) i;
INSERT INTO orders SELECT i, i % 100 + 1, (ARRAY['north', 'south', 'east', 'west'])[i % 4 + 1],
    timestamptz '2026-01-01 00:00:00Z' + i * interval '7 minutes' FROM generate_series(1, 1000) i;
INSERT INTO lines SELECT i, n, 'sku-' || (i * n) % 250, (i * n % 9000) / 100.0
    FROM generate_series(1, 1000) i, generate_series(1, 3) n;
ANALYZE;
