package main

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"github.com/sigild/sigild/ipc"
)

// units are the decimals of the units that amounts are given in.
func units() map[string]int {
	return map[string]int{"wei": 0, "gwei": gweiDigits, "ether": etherDigits}
}

// quantity reads an amount that a person typed: "any", wei in hexadecimal, or a
// decimal number with its unit. A number without one is refused: it might be
// meant as ether. The result is in the wire's form.
func quantity(text string) (string, error) {
	if text == ipc.Any {
		return text, nil
	}
	wei := new(big.Int)
	if digits, found := strings.CutPrefix(text, "0x"); found {
		if _, ok := wei.SetString(digits, 16); !ok || digits[0] == '-' || digits[0] == '+' {
			return "", fmt.Errorf("%q is not a hexadecimal number", text)
		}
		return fmt.Sprintf("%#x", wei), nil
	}
	parts := regexp.MustCompile(`^([0-9]+)(?:\.([0-9]+))? ?(wei|gwei|ether)$`).FindStringSubmatch(text)
	if parts == nil {
		return "", fmt.Errorf(`%q is not an amount: give a number with its unit, such as 1.5ether, 20gwei or 1000wei, or "any"`, text)
	}
	digits := units()[parts[3]]
	if len(parts[2]) > digits {
		return "", fmt.Errorf("%q has more than %d decimals", text, digits)
	}
	wei.SetString(parts[1]+parts[2]+strings.Repeat("0", digits-len(parts[2])), 10)
	return fmt.Sprintf("%#x", wei), nil
}
