package main

// What the tests of the program need beside its command line.
var (
	Main     = main
	Describe = describe
)
