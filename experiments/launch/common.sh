# shellcheck shell=bash
# Sourced by the scripts beside it: flags, errors, and commands that --dry-run only prints.

declare -A flags=() # --name x is flags[name]; a switch such as --spot is flags[spot]=1
command=()          # what stands behind --

fail() { # fail MESSAGE: one line, and the status of a user's error
    echo "error: $*" >&2
    exit 2
}

usage() { # the comment at the head of the script
    sed -n '2,/^set /{/^#/!d; s/^# \{0,1\}//p}' "$0"
    exit 0
}

parse() { # parse "FLAGS WITH A VALUE" "SWITCHES" ARGUMENTS...
    local valued=" $1 " switches=" $2 dry-run " flag
    shift 2
    while (($#)); do
        flag=${1#--}
        case $1 in
            --help | -h) usage ;;
            --) shift && command=("$@") && return ;;
            --*) ;;
            *) fail "found '$1', expected a flag; see --help" ;;
        esac
        if [[ $switches == *" $flag "* ]]; then
            flags[$flag]=1 && shift
        elif [[ $valued == *" $flag "* ]]; then
            [[ $# -gt 1 && $2 != --* ]] || fail "--$flag: expected a value"
            flags[$flag]=$2 && shift 2
        else
            fail "--$flag: no such flag; see --help"
        fi
    done
}

need() { # need FLAG REGEX EXAMPLE: the flag was given, and looks right
    local value=${flags[$1]:-}
    [[ $value ]] || fail "--$1: missing, expected something like $3"
    [[ $value =~ ^($2)$ ]] || fail "--$1: found '$value', expected something like $3"
}

need_command() { # a command stands behind --
    ((${#command[@]})) || fail "expected '-- python experiments/SCRIPT.py ...' at the end"
    [[ ${command[0]} == python ]] || fail "command: found '${command[0]}', expected python"
}

quoted() { # the arguments, as a shell reads them
    local line
    printf -v line '%q ' "$@"
    echo "${line% }"
}

run() { # run COMMAND...: with --dry-run print it instead
    if [[ ${flags[dry-run]:-} ]]; then quoted "$@"; else "$@"; fi
}

bundle() { # the commit that is checked out here, as the file $bundled
    local root
    root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
    [[ -z $(git -C "$root" status --porcelain --untracked-files=no) ]] ||
        echo "warning: changes that are not committed stay here" >&2
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    bundled=$scratch/jaxrl.bundle
    run git -C "$root" bundle create -q "$bundled" HEAD
}
