-- A table to try things on; Postgres runs this once, when its volume is empty.
CREATE TABLE users (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  email text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO users (name, email)
  SELECT 'User ' || n, 'user.' || n || '@example.com' FROM generate_series(1, 10000) AS n;
