package transform_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

func TestAPayloadNamesItsColumn(t *testing.T) {
	t.Parallel()
	p := transform.Payload{Tables: []string{"users", "public.users"}, Columns: []string{"email", "email_encrypted"}}
	for document, fits := range map[string]bool{
		`{"v":2,"i":{"t":"users","c":"email"},"c":"mB"}`:                           true,
		`{"v":2.0,"i":{"t":"public.users","c":"email_encrypted","x":1},"sv":[{}]}`: true,
		`{"V":2,"i":{"t":"users","c":"email"},"c":"mB"}`:                           false,
		`{"v":"2","i":{"t":"users","c":"email"},"c":"mB"}`:                         false,
		`{"i":{"t":"users","c":"email"},"c":"mB"}`:                                 false,
		`{"v":2,"i":{"t":"orders","c":"email"},"c":"mB"}`:                          false,
		`{"v":2,"i":{"t":"users","c":"name"},"c":"mB"}`:                            false,
		`{"v":2,"i":{"t":"users"},"c":"mB"}`:                                       false,
		`{"v":2,"i":null,"c":"mB"}`:                                                false,
		`{"v":2,"i":["t"],"c":"mB"}`:                                               false,
		`{"v":2,"c":"mB"}`:                                                         false,
		`{"v":2,"i":{"t":"users","c":"email"}}`:                                    false,
		`[{"v":2,"i":{"t":"users","c":"email"},"c":"mB"}]`:                         false,
		`"ada"`: false, `2`: false, `null`: false, `ada`: false, ``: false,
	} {
		if p.Fits([]byte(document)) != fits {
			t.Errorf("Fits(%s) is %v", document, !fits)
		}
	}
}
