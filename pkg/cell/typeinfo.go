package cell

import "fmt"

// TypeInfo describes a column's type as pg_type does. A domain is resolved by the caller, all
// the way down: OID, Name, Kind and Category are those of the base type.
type TypeInfo struct {
	OID      uint32
	Name     string     // typname
	Kind     byte       // typtype: b base, c composite, e enum, r range, m multirange, p pseudo, d domain (refused)
	Category byte       // typcategory; 'A' is an array
	Parts    []TypeInfo // an array's element, a range's subtype, a composite's fields (base types); may be left out
}

// OIDs of pg_type that the server fixes (src/include/catalog/pg_type.dat).
const (
	oidBool        = 16
	oidBytea       = 17
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidOID         = 26
	oidJSON        = 114
	oidXML         = 142
	oidFloat4      = 700
	oidFloat8      = 701
	oidMoney       = 790
	oidMoneyArray  = 791
	oidBPChar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestampTZ = 1184
	oidInterval    = 1186
	oidTimeTZ      = 1266
	oidNumeric     = 1700
	oidUUID        = 2950
)

// Bounds of OIDs: from the first to the second the server numbers the row types of its own
// catalogs and of information_schema (FirstGenbkiObjectId), from the second on everything that
// users and extensions make (FirstNormalObjectId).
const (
	firstCatalogOID = 10000
	firstUserOID    = 16384
)

// CodecFor chooses the codec for a column of type t, or says why values of the type are not sealed.
func CodecFor(t TypeInfo) (Codec, error) {
	if why := refusal(t); why != "" {
		return 0, fmt.Errorf("choose codec for type %s: %s", t.Name, why)
	}
	switch t.OID {
	case oidBytea:
		return CodecBytes, nil
	case oidText, oidVarchar, oidBPChar, oidName, oidJSON, oidXML:
		return CodecText, nil
	case oidBool:
		return CodecBool, nil
	case oidInt2, oidInt4, oidInt8:
		return CodecInt, nil
	case oidFloat4:
		return CodecFloat4, nil
	case oidFloat8:
		return CodecFloat8, nil
	case oidUUID:
		return CodecUUID, nil
	}
	if c, ok := timeCodec(t.OID); ok {
		return c, nil
	}
	if t.Kind == 'e' || isCitext(t) {
		return CodecText, nil
	}
	return CodecOutput, nil
}

func timeCodec(oid uint32) (Codec, bool) {
	switch oid {
	case oidDate:
		return CodecDate, true
	case oidTime:
		return CodecTime, true
	case oidTimeTZ:
		return CodecTimeTZ, true
	case oidTimestamp:
		return CodecTimestamp, true
	case oidTimestampTZ:
		return CodecTimestampTZ, true
	case oidInterval:
		return CodecInterval, true
	}
	return 0, false
}

func isCitext(t TypeInfo) bool { return t.OID >= firstUserOID && t.Kind == 'b' && t.Name == "citext" }

// refusal says why values of a type, or of a type it is made of, cannot be sealed faithfully, or returns "".
func refusal(t TypeInfo) string {
	switch t.OID {
	case 0:
		return "it has no OID"
	case oidMoney, oidMoneyArray:
		return "money depends on the server's lc_monetary; make it numeric first"
	case oidOID:
		return "it names an object of this database and does not survive a dump"
	}
	switch {
	case isRegAlias(t.OID):
		return "it names an object of this database and does not survive a dump or a rename"
	case isServerType(t.OID) || t.Category == 'Z' || t.OID >= firstCatalogOID && t.OID < firstUserOID:
		return "it is a system type, whose values mean something in this server only"
	case t.Kind == 'd':
		return "it is a domain; its base type decides"
	case t.Kind == 'p':
		return "it is a pseudo-type"
	}
	for _, p := range t.Parts {
		if why := refusal(p); why != "" {
			return fmt.Sprintf("it contains %s: %s", p.Name, why)
		}
	}
	return ""
}

// isRegAlias knows regproc, regprocedure, regoper, regoperator, regclass, regtype, regrole,
// regnamespace, regconfig, regdictionary, regcollation, regdatabase, and the arrays of them and of oid.
func isRegAlias(oid uint32) bool {
	switch oid {
	case 24, 2202, 2203, 2204, 2205, 2206, 4096, 4089, 3734, 3769, 4191, 8326:
		return true
	case 1008, 2207, 2208, 2209, 2210, 2211, 4097, 4090, 3735, 3770, 4192, 8327, 1028:
		return true
	}
	return false
}

// isServerType knows "char", int2vector, oidvector, tid, xid, cid, xid8, aclitem, refcursor, pg_lsn,
// txid_snapshot, pg_snapshot, gtsvector, the row types of the first catalogs, and the arrays of them.
func isServerType(oid uint32) bool {
	switch oid {
	case 18, 22, 30, 27, 28, 29, 5069, 1033, 1790, 3220, 2970, 5038, 3642, 71, 75, 81, 83, 194:
		return true
	case 1002, 1006, 1013, 1010, 1011, 1012, 271, 1034, 2201, 3221, 2949, 5039, 3644, 210, 270, 272, 273:
		return true
	}
	return false
}
