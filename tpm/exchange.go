package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/sigild/sigild/daemon/wipe"
)

// secretCommand is a command with a secret in its first parameter or in the
// first parameter of its response. It is put together here and not by go-tpm,
// whose marshalling leaves copies of the plaintext on the heap.
type secretCommand struct {
	name     string
	code     tpm2.TPMCC
	handles  []tpm2.NamedHandle // the session authorises the first, if there is any
	session  tpm2.Session
	secret   []byte // contents of the first parameter, a TPM2B; sent encrypted
	hasTPM2B bool   // whether there is such a parameter
	rest     []byte // the parameters after it, or all
}

// exchange runs the command and returns the contents of the first response
// parameter, a TPM2B, and the bytes after it. Both are slices of one buffer
// that is the caller's to clear. Errors are as with execute.
func (l *link) exchange(c secretCommand) (first, rest []byte, err error) {
	if err := c.session.Init(l); err != nil {
		return nil, nil, l.fault("TPM2_StartAuthSession", err)
	}
	message, err := c.marshal()
	if err != nil {
		return nil, nil, l.conn.fail(fmt.Errorf("%s: %w", c.name, err))
	}
	response, err := l.Send(message)
	if err != nil {
		return nil, nil, err
	}
	if code := responseCode(response); code != tpm2.TPMRCSuccess {
		_ = c.session.CleanupFailure(l)
		return nil, nil, l.fault(c.name, code)
	}
	first, rest, err = c.unmarshal(response)
	if err != nil {
		clear(response)
		return nil, nil, l.conn.fail(fmt.Errorf("%s: %w", c.name, err))
	}
	return first, rest, nil
}

// marshal lays the command out as in Part 1, section 18: header, handles, size
// of the authorisation area, that area, parameters.
func (c *secretCommand) marshal() ([]byte, error) {
	if err := c.session.NewNonceCaller(); err != nil {
		return nil, err
	}
	parameters, err := c.parameters()
	if err != nil {
		return nil, err
	}
	authorization, err := c.session.Authorize(c.code, parameters, nil, c.names(), 0)
	if err != nil {
		return nil, err
	}
	area := tpm2.Marshal(*authorization)
	size := headerSize + 4*len(c.handles) + 4 + len(area) + len(parameters)
	message := make([]byte, 0, size)
	message = binary.BigEndian.AppendUint16(message, uint16(tpm2.TPMSTSessions))
	message = binary.BigEndian.AppendUint32(message, uint32(size))
	message = binary.BigEndian.AppendUint32(message, uint32(c.code))
	for _, handle := range c.handles {
		message = binary.BigEndian.AppendUint32(message, uint32(handle.Handle))
	}
	message = binary.BigEndian.AppendUint32(message, uint32(len(area)))
	return append(append(message, area...), parameters...), nil
}

// parameters encrypts the first parameter in place: the plaintext is in no
// other buffer than the caller's.
func (c *secretCommand) parameters() (parameters []byte, err error) {
	if !c.hasTPM2B {
		return c.rest, nil
	}
	wipe.Do(func() { parameters, err = c.encrypted() })
	return parameters, err
}

func (c *secretCommand) encrypted() ([]byte, error) {
	parameters := make([]byte, 0, 2+len(c.secret)+len(c.rest))
	parameters = binary.BigEndian.AppendUint16(parameters, uint16(len(c.secret)))
	parameters = append(append(parameters, c.secret...), c.rest...)
	if err := c.session.Encrypt(parameters[2 : 2+len(c.secret)]); err != nil {
		clear(parameters)
		return nil, err
	}
	return parameters, nil
}

func (c *secretCommand) names() []tpm2.TPM2BName {
	names := make([]tpm2.TPM2BName, len(c.handles))
	for i, handle := range c.handles {
		names[i] = handle.Name
	}
	return names
}

var errResponseLayout = errors.New("the response is not laid out as the command's definition says")

// unmarshal checks the response's HMAC and then decrypts its first parameter.
func (c *secretCommand) unmarshal(response []byte) (first, rest []byte, err error) {
	body := response[headerSize:]
	if binary.BigEndian.Uint16(response) != uint16(tpm2.TPMSTSessions) || len(body) < 4 {
		return nil, nil, errResponseLayout
	}
	size := int64(binary.BigEndian.Uint32(body))
	body = body[4:]
	if size < 2 || size > int64(len(body)) {
		return nil, nil, errResponseLayout
	}
	parameters, area := body[:size], body[size:]
	if err := c.validate(parameters, area); err != nil {
		return nil, nil, err
	}
	length := int(binary.BigEndian.Uint16(parameters))
	if length > len(parameters)-2 {
		return nil, nil, errResponseLayout
	}
	first, rest = parameters[2:2+length], parameters[2+length:]
	wipe.Do(func() { err = c.session.Decrypt(first) })
	return first, rest, err
}

func (c *secretCommand) validate(parameters, area []byte) error {
	authorization, err := tpm2.Unmarshal[tpm2.TPMSAuthResponse](area)
	if err != nil {
		return err
	}
	if len(tpm2.Marshal(*authorization)) != len(area) {
		return errResponseLayout
	}
	return c.session.Validate(tpm2.TPMRCSuccess, c.code, parameters, c.names(), 0, authorization)
}
