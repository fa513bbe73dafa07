package audit

// File is what a log writes to.
type File = file

// OpenFile is how Open opens it.
var OpenFile = openFile

// OpenBy is Open with another way to open the file.
func OpenBy(open func(path string, flags int) (File, error), path string) (*Log, error) {
	return openBy(open, path)
}
