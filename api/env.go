package api

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// Limits of an environment. The kernel takes 128 KiB per string of execve and
// 2 MiB in all; these leave room for the platform's own.
const (
	maxEnvName  = 128
	maxEnvValue = 32 << 10
	maxEnvTotal = 256 << 10
	maxEnvVars  = 1000
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// reservedEnv says why the platform keeps a name to itself.
var reservedEnv = map[string]string{
	"PORT":              "the platform says on which port an instance listens",
	"ORA_PORT":          "the platform says on which port an instance listens",
	"HOST":              "an instance must listen on all addresses",
	"HOSTNAME":          "it is the instance's ID",
	"APP_HOME":          "it is where the platform puts the app",
	"ORA_APP_NAME":      "it is the app's name",
	"ORA_INSTANCE_NAME": "it is the instance's name",
}

// getEnv shows names; values only with reveal=true, which leaves an event.
func (s *Server) getEnv(c echo.Context) error {
	q, err := query(c, "reveal")
	if err != nil {
		return err
	}
	reveal, err := queryBool(q, "reveal")
	if err != nil {
		return err
	}
	a, err := s.app(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	vars, err := s.Store.Env(ctx, a.Name)
	if err != nil {
		return err
	}
	if reveal {
		err := s.Store.AddEvent(ctx, paas.Event{At: s.now(), AppID: a.ID, AppName: a.Name, Kind: "env.revealed",
			Message: "the environment's values were shown", By: userName(c)})
		if err != nil {
			return err
		}
	}
	out := v1.Env{Version: a.ConfigVersion, Variables: make([]v1.EnvVar, 0, len(vars))}
	for _, v := range vars {
		e := v1.EnvVar{Name: v.Name}
		if reveal {
			value := string(v.Value)
			e.Value = &value
		}
		out.Variables = append(out.Variables, e)
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) changeEnv(c echo.Context) error {
	a, err := s.app(c)
	if err != nil {
		return err
	}
	var in v1.ChangeEnv
	if err := errors.Join(noQuery(c), decode(c, &in, false), mustStay(a)); err != nil {
		return err
	}
	if len(in.Set)+len(in.Unset) == 0 {
		return paas.Errorf(paas.CodeInvalid, "nothing to change was given").WithHint("give set or unset")
	}
	ctx := c.Request().Context()
	if err := checkEnv(in); err != nil {
		return err
	}
	if err := s.checkEnvTotal(ctx, a.Name, in); err != nil {
		return err
	}
	d, err := s.Store.SetEnv(ctx, a.Name, in.Set, in.Unset, userName(c))
	if err != nil {
		return err
	}
	var out v1.EnvChanged
	if d != nil {
		v := s.viewDeployment(*d, nil)
		out.Deployment = &v
		s.Runtime.Wake()
	}
	return c.JSON(http.StatusOK, out)
}

// checkEnv checks names and values; an error never quotes a value.
func checkEnv(in v1.ChangeEnv) error {
	for _, name := range in.Unset {
		if err := checkEnvName(name); err != nil {
			return err
		}
		if _, ok := in.Set[name]; ok {
			return paas.Errorf(paas.CodeInvalid, "variable %s is in set and in unset", name)
		}
	}
	for name, value := range in.Set {
		if err := checkEnvName(name); err != nil {
			return err
		}
		if why, ok := reservedEnv[name]; ok {
			return paas.Errorf(paas.CodeInvalid, "variable %s is reserved: %s", name, why)
		}
		if strings.HasPrefix(name, "SLIPWAY_") {
			return paas.Errorf(paas.CodeInvalid, "variable %s is reserved: names that begin with SLIPWAY_ are the platform's", name)
		}
		if len(value) > maxEnvValue {
			return paas.Errorf(paas.CodeInvalid, "the value of %s has %d bytes, the limit is %d", name, len(value), maxEnvValue)
		}
		if strings.ContainsRune(value, 0) || !utf8.ValidString(value) {
			return paas.Errorf(paas.CodeInvalid, "the value of %s has a NUL byte, which no environment can carry", name)
		}
	}
	return nil
}

func checkEnvName(name string) error {
	if len(name) > maxEnvName {
		return paas.Errorf(paas.CodeInvalid, "a variable's name has %d characters, the limit is %d", len(name), maxEnvName)
	}
	if !envName.MatchString(name) {
		return paas.Errorf(paas.CodeInvalid, "variable name %q is not allowed", name).
			WithHint("use letters, digits and _, not starting with a digit")
	}
	return nil
}

// checkEnvTotal bounds what the environment would be after the change.
func (s *Server) checkEnvTotal(ctx context.Context, app string, in v1.ChangeEnv) error {
	vars, err := s.Store.Env(ctx, app)
	if err != nil {
		return err
	}
	count, total := len(in.Set), 0
	for name, value := range in.Set {
		total += len(name) + len(value) + 2 // "=" and NUL
	}
	for _, v := range vars {
		_, replaced := in.Set[v.Name]
		if !replaced && !slices.Contains(in.Unset, v.Name) {
			count++
			total += len(v.Name) + len(v.Value) + 2
		}
	}
	if count > maxEnvVars {
		return paas.Errorf(paas.CodeInvalid, "the environment would have %d variables, the limit is %d", count, maxEnvVars)
	}
	if total > maxEnvTotal {
		return paas.Errorf(paas.CodeInvalid, "the environment would have %d bytes, the limit is %d", total, maxEnvTotal)
	}
	return nil
}
