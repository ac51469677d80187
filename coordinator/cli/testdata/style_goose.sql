-- +goose Up
-- Makes a table of "two?lines"; DROP TABLE x.
-- +goose StatementBegin
DO $a$
BEGIN
  CREATE TABLE t ("a;--" int);
END
$a$;
-- +goose StatementEnd
-- +goose StatementBegin
COMMENT ON TABLE t IS 'it''s; --small';
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DROP TABLE t;
-- +goose StatementEnd
=====
