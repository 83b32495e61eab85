package source

import (
	"regexp"
	"strings"
)

// shellWords never can follow exec: builtins, keywords and exec itself.
var shellWords = map[string]bool{
	"exec": true, "exit": true, "wait": true, "cd": true, "export": true, ".": true, "source": true, "set": true, "trap": true,
	"while": true, "until": true, "for": true, "if": true, "case": true, "do": true, "done": true, "then": true, "else": true,
	"fi": true, "esac": true, "eval": true, "ulimit": true, "umask": true, ":": true, "true": true, "false": true, "{": true, "}": true, "!": true,
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'\\;&|()<>]|\\.)*\s+`)

// ShellArgv runs command through a shell, so that variables and patterns expand.
// The last simple command replaces the shell, so that SIGTERM reaches the app;
// replaced is false where the shell has to stay (pipes, background jobs, loops).
func ShellArgv(command string) (argv []string, replaced bool) {
	with, ok := insertExec(command)
	return []string{"/bin/sh", "-c", with}, ok
}

func insertExec(command string) (string, bool) {
	last, ok := lastSimpleCommand(command)
	if !ok {
		return command, false
	}
	at := last
	for at < len(command) && (command[at] == ' ' || command[at] == '\t' || command[at] == '\n') {
		at++
	}
	for {
		m := assignment.FindString(command[at:])
		if m == "" {
			break
		}
		at += len(m)
	}
	rest := command[at:]
	word := strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune(" \t\n;", r) })
	if len(word) == 0 {
		return command, false
	}
	if shellWords[word[0]] {
		return command, word[0] == "exec"
	}
	return command[:at] + "exec " + rest, true
}

// lastSimpleCommand returns where the last command of an && or ; list begins; ok is
// false when the line holds anything that is not such a list.
func lastSimpleCommand(s string) (start int, ok bool) {
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && quote != '\'':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '&' && i+1 < len(s) && s[i+1] == '&':
			i++
			start = i + 1
		case c == '&' && (i > 0 && s[i-1] == '>' || i+1 < len(s) && s[i+1] == '>'): // 2>&1, &>file
		case c == ';' || c == '\n':
			if strings.TrimSpace(s[i+1:]) != "" {
				start = i + 1
			}
		case strings.IndexByte("|&()`#", c) >= 0:
			return 0, false
		}
	}
	return start, quote == 0
}
