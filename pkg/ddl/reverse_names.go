package ddl

// ReverseTriggers are the names of a column's reverse capture triggers.
func ReverseTriggers(id uint32) []string {
	return []string{plaintextMarker(id), reverseInsertTrigger(id), movedTrigger(id), plainInsertTrigger(id), plainUpdateTrigger(id), reverseUpdateTrigger(id)}
}
