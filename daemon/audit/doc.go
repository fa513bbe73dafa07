// Package audit keeps the log of what was asked and answered: one JSON object
// a line, appended and on disk before the answer leaves. It holds digests, never
// payloads, PINs or keys.
//
// The file is append-only by convention, not yet tamper-evident: who can write
// it can change it.
package audit
