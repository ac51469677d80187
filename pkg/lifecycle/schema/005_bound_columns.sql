-- Schemes whose cells are bound to the values of named columns of their rows.
ALTER TABLE cipherfleet.schemes
  ADD COLUMN bound_attnums int2[],
  ADD COLUMN bound_tags text,
  ADD CHECK ((binding = 'columns') = (bound_attnums IS NOT NULL) AND (bound_attnums IS NULL) = (bound_tags IS NULL)),
  ADD CHECK (pg_catalog.cardinality(bound_attnums) > 0 AND pg_catalog.cardinality(bound_attnums) = pg_catalog.length(bound_tags));
COMMENT ON COLUMN cipherfleet.schemes.bound_attnums IS 'The columns that cells are bound to with binding columns, in the order in which they are encoded: attribute numbers of the table, of a partitioned one its root. A rename changes nothing.';
COMMENT ON COLUMN cipherfleet.schemes.bound_tags IS 'How their values are encoded, one letter each: a column whose type is of another letter by now is another column.';

DROP TRIGGER immutable ON cipherfleet.schemes;
CREATE TRIGGER immutable BEFORE UPDATE ON cipherfleet.schemes FOR EACH ROW
  WHEN (ROW(new.column_id, new.number, new.suite, new.codec, new.binding, new.padding, new.nulls, new.tenant_column, new.retain, new.revision, new.bound_attnums, new.bound_tags)
        IS DISTINCT FROM ROW(old.column_id, old.number, old.suite, old.codec, old.binding, old.padding, old.nulls, old.tenant_column, old.retain, old.revision, old.bound_attnums, old.bound_tags)
        OR (old.state = 'destroyed' AND new.state <> 'destroyed')
        OR (old.state = 'retired' AND new.state NOT IN ('retired','destroyed'))
        OR (old.state IN ('readable','active') AND new.state = 'destroyed'))
  EXECUTE FUNCTION cipherfleet.refuse_change();
ALTER TABLE cipherfleet.schemes ENABLE ALWAYS TRIGGER immutable;
