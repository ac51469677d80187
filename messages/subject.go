package messages

import "strconv"

// The streams and the one durable consumer that all workers share.
const (
	StreamWork      = "CIPHERFLEET_WORK"
	StreamEvents    = "CIPHERFLEET_EVENTS"
	StreamDLQ       = "CIPHERFLEET_DLQ"
	ConsumerWorkers = "workers"
)

// The subjects that the streams listen to. The last two tokens of a work or dead-letter subject are a job and a table
// token, those of an event subject a job and a kind.
const (
	SubjectsWork   = "cipherfleet.v1.work.>"
	SubjectsEvents = "cipherfleet.v1.evt.>"
	SubjectsDLQ    = "cipherfleet.v1.dlq.>"
)

// The subjects of the control service that the leading coordinator answers.
const (
	Service       = "cipherfleet"
	SubjectStart  = "cipherfleet.v1.job.start"
	SubjectGet    = "cipherfleet.v1.job.get"
	SubjectList   = "cipherfleet.v1.job.list"
	SubjectPause  = "cipherfleet.v1.job.pause"
	SubjectResume = "cipherfleet.v1.job.resume"
	SubjectCancel = "cipherfleet.v1.job.cancel"
	SubjectRetry  = "cipherfleet.v1.job.retry"
)

// HeaderType is the header that names a body's type and version. It is for people and routers: nothing here needs it.
const HeaderType = "Cipherfleet-Type"

// The values of HeaderType.
const (
	TypeTask       = "work.v1"
	TypeProgress   = "evt.v1"
	TypeDeadLetter = "dlq.v1"
	TypeStart      = "job.start.v1"
	TypeGet        = "job.get.v1"
	TypeList       = "job.list.v1"
	TypePause      = "job.pause.v1"
	TypeResume     = "job.resume.v1"
	TypeCancel     = "job.cancel.v1"
	TypeRetry      = "job.retry.v1"
	TypeExternal   = "external.v1"
)

// TableToken is how a table is named in subjects and tasks: by its number, since a name may hold dots, stars and
// spaces, and need not be known to everyone who sees a subject.
func TableToken(relid uint32) string { return "t" + strconv.FormatUint(uint64(relid), 10) }

// WorkSubject is where the tasks of one table of a job are published.
func WorkSubject(job, table string) string { return "cipherfleet.v1.work." + job + "." + table }

// EventSubject is where progress of one kind of a job is published.
func EventSubject(job, kind string) string { return "cipherfleet.v1.evt." + job + "." + kind }

// DeadSubject is where the dead letters of one table of a job are published.
func DeadSubject(job, table string) string { return "cipherfleet.v1.dlq." + job + "." + table }
