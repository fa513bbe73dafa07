package main

import "encoding/json"

// What the tests of the program need beside its command line.
var (
	Main     = main
	Describe = describe
	Quantity = quantity
	Payloads = []func(json.RawMessage, string) (string, error){describeTypedData, describeAuthorization, describeUserOperation}
)

// RedactUnit and RedactConfig are what a support bundle shows of files.
var (
	RedactUnit   = redactUnit
	RedactConfig = redactConfig
)
