package foreign

// FieldKeyForTest derives the key of a field as lockbox and CipherSweet do.
func FieldKeyForTest(master []byte, table, field string) ([]byte, error) {
	return fieldKey(master, table, field)
}
