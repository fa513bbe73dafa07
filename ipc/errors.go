package ipc

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Codes of the JSON-RPC 2.0 specification (section 5.1), of EIP-1474
// (-32000, the server's own; -32005, limit exceeded) and of EIP-1193 (4100, unauthorized).
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
	CodeServer         = -32000
	CodeLimitExceeded  = -32005
	CodeUnauthorized   = 4100
)

// Reasons that this package gives. A reason never changes its meaning; callers
// match on it, not on the code or the message.
const (
	ReasonParse          = "parse"
	ReasonInvalidRequest = "invalidRequest"
	ReasonMethodNotFound = "methodNotFound"
	ReasonInvalidParams  = "invalidParams"
	ReasonInternal       = "internal"
	ReasonTooLarge       = "tooLarge"
	ReasonTooDeep        = "tooDeep"
	ReasonBatchTooLong   = "batchTooLong"
	ReasonOverloaded     = "overloaded"
	ReasonPeerNotAllowed = "peerNotAllowed"
	ReasonTimeout        = "timeout"
)

// Error is an error as it goes over the wire, the JSON-RPC error object
//
//	{"code":…,"message":…,"data":{"reason":…,"attemptsLeft":…,"retryAfter":…,"charged":…,"lockedUntil":…,"field":…}}
//
// Only reason is always present. Handlers return *Error for what a caller can
// act on; the client returns it for every error that the server answered with.
type Error struct {
	// Code is the JSON-RPC error code; 0 is sent as CodeServer.
	Code int
	// Reason is the stable name of what happened.
	Reason string
	// Message is for people. It never holds a secret or an internal detail.
	Message string
	// AttemptsLeft is the number of wrong PINs that the wallet still bears.
	AttemptsLeft *int
	// RetryAfter is the time in seconds after which the call may succeed.
	RetryAfter *float64
	// Charged says whether the call cost the wallet a PIN attempt.
	Charged *bool
	// LockedUntil is when a wallet that is waiting takes a PIN again.
	LockedUntil *Time
	// Field is the path of the parameter at fault, such as "transaction.gas".
	Field string
	// Proof is the daemon's proof over the other members of data, in the answer
	// to a request with a sealed PIN. The client checks it and takes it out.
	Proof Hex
	// Proven is set by the client when the error had the daemon's proof, which
	// covers all but Code and Message. Other errors to a request with a sealed PIN
	// have one of ReasonsWithoutProof and may come from whoever stands between,
	// also when the request was carried out.
	Proven bool

	// raw is data as it came, with members that this version does not know.
	raw json.RawMessage
}

type errorObject struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

type errorData struct {
	Reason       string   `json:"reason"`
	AttemptsLeft *int     `json:"attemptsLeft,omitempty"`
	RetryAfter   *float64 `json:"retryAfter,omitempty"`
	Charged      *bool    `json:"charged,omitempty"`
	LockedUntil  *Time    `json:"lockedUntil,omitempty"`
	Field        string   `json:"field,omitempty"`
	Proof        Hex      `json:"proof,omitempty"`
}

// Error returns the message with the reason, and the field if there is one.
func (e *Error) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s (%s, field %s)", e.Message, e.Reason, e.Field)
	}
	return fmt.Sprintf("%s (%s)", e.Message, e.Reason)
}

// Is reports whether target is an *Error with the same reason, so that
// errors.Is(err, &Error{Reason: ReasonOverloaded}) asks for the reason.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason != "" && t.Reason == e.Reason
}

// ReasonOf returns the reason of the *Error in err's tree, or "".
func ReasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// MarshalJSON returns the JSON-RPC error object.
func (e *Error) MarshalJSON() ([]byte, error) {
	data, err := e.data()
	if err != nil {
		return nil, err
	}
	return json.Marshal(errorObject{Code: e.Code, Message: e.Message, Data: data})
}

func (e *Error) data() (json.RawMessage, error) {
	return json.Marshal(errorData{
		Reason: e.Reason, AttemptsLeft: e.AttemptsLeft, RetryAfter: e.RetryAfter,
		Charged: e.Charged, LockedUntil: e.LockedUntil, Field: e.Field, Proof: e.Proof,
	})
}

// WithProof returns a copy of e whose data carries the proof that prove adds to
// it; see package channel.
func (e *Error) WithProof(prove func(data []byte) ([]byte, error)) (*Error, error) {
	data, err := e.data()
	if err != nil {
		return nil, err
	}
	proven, err := prove(data)
	if err != nil {
		return nil, err
	}
	var d errorData
	if err := json.Unmarshal(proven, &d); err != nil {
		return nil, err
	}
	out := *e
	out.Proof = d.Proof
	return &out, nil
}

// UnmarshalJSON reads a JSON-RPC error object. Data of another form, as other
// servers send it, leaves the fields behind Message empty.
func (e *Error) UnmarshalJSON(b []byte) error {
	var obj errorObject
	if err := json.Unmarshal(b, &obj); err != nil {
		return err
	}
	var d errorData
	if len(obj.Data) == 0 || json.Unmarshal(obj.Data, &d) != nil {
		d = errorData{}
	}
	*e = Error{
		Code: obj.Code, Message: obj.Message, Reason: d.Reason,
		AttemptsLeft: d.AttemptsLeft, RetryAfter: d.RetryAfter,
		Charged: d.Charged, LockedUntil: d.LockedUntil, Field: d.Field, Proof: d.Proof, raw: obj.Data,
	}
	return nil
}

// InvalidParams returns the error for a parameter that the caller can mend.
// field is its path, "" for the parameters as a whole; problem says what is
// wrong, without the value.
func InvalidParams(field, problem string) *Error {
	msg := "invalid params: " + problem
	if field != "" {
		msg = "invalid params: " + field + ": " + problem
	}
	return &Error{Code: CodeInvalidParams, Reason: ReasonInvalidParams, Message: msg, Field: field}
}

// Overloaded returns the error for a request that was not begun and costs
// nothing; the caller may repeat it after retryAfter.
func Overloaded(message string, retryAfter time.Duration) *Error {
	seconds, charged := retryAfter.Seconds(), false
	return &Error{
		Code: CodeLimitExceeded, Reason: ReasonOverloaded, Message: message,
		RetryAfter: &seconds, Charged: &charged,
	}
}

func parseError(message string) *Error {
	return &Error{Code: CodeParse, Reason: ReasonParse, Message: "parse error: " + message}
}

func invalidRequest(message string) *Error {
	return &Error{Code: CodeInvalidRequest, Reason: ReasonInvalidRequest, Message: "invalid request: " + message}
}

func internalError() *Error {
	return &Error{Code: CodeInternal, Reason: ReasonInternal, Message: "internal error"}
}
