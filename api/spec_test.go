package api

import (
	"context"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func TestSpec_AndRoutesAgreeBothWays(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openapiYAML)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background(), openapi3.DisableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			said[method+" "+path] = true
			if op.Summary == "" {
				t.Errorf("%s %s has no summary", method, path)
			}
		}
	}
	param := regexp.MustCompile(`:([a-z]+)`)
	served := map[string]access{}
	for _, r := range (&Server{}).routes() {
		served[r.method+" "+param.ReplaceAllString(r.path, "{$1}")] = r.access
	}
	for route := range served {
		if !said[route] {
			t.Errorf("%s is served but not in openapi.yaml", route)
		}
	}
	for route := range said {
		if _, ok := served[route]; !ok {
			t.Errorf("%s is in openapi.yaml but not served", route)
		}
	}
	for route, a := range served {
		checkSecurity(t, doc, route, a)
	}
}

// checkSecurity holds the token that the description asks for to the one that
// the server asks for.
func checkSecurity(t *testing.T, doc *openapi3.T, route string, a access) {
	t.Helper()
	method, path, _ := strings.Cut(route, " ")
	item := doc.Paths.Find(path)
	if item == nil {
		return
	}
	op := item.GetOperation(method)
	if op == nil {
		return
	}
	said := forUsers
	switch {
	case op.Security == nil: // the document's default: a token
	case len(*op.Security) == 0:
		said = forEveryone
	default:
		said = forLocal
	}
	if said != a {
		t.Errorf("%s: openapi.yaml says access %d, the server %d", route, said, a)
	}
}

func TestSpec_SchemasAreUsed(t *testing.T) {
	text := string(openapiYAML)
	doc, err := openapi3.NewLoader().LoadFromData(openapiYAML)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range doc.Components.Schemas {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if !strings.Contains(text, `"#/components/schemas/`+name+`"`) {
			t.Errorf("schema %s is not used", name)
		}
	}
}
