# Looks after one private server of the tests. Usage: sh -c "$(cat janitor.sh)" janitor DIR END_SIGNAL COMMAND...
#
# Reads one word a line from standard input and answers one line to each:
#   start [NAME=VALUE]  starts COMMAND, with one more variable in its environment; answers its process id
#   end SIGNAL          sends SIGNAL to the server and waits for its end; answers "ended"
#
# When the test process is gone, however it went, standard input ends: the server, everything it started in this process
# group, and DIR go with it.
dir=$1
end_signal=$2
shift 2
server=
end() {
  if [ -n "$server" ]; then
    kill "-$1" "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
  fi
}
while read -r word argument; do
  case $word in
  start)
    # No variable: `env` then has nothing to add. It becomes COMMAND, so the process id is the server's.
    env ${argument:+"$argument"} "$@" </dev/null >>"$dir/log" 2>&1 &
    server=$!
    echo "$server"
    ;;
  end)
    end "$argument"
    echo ended
    ;;
  esac
done
end "$end_signal"
rm -rf "$dir"
kill -KILL 0
