# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_sshd_mend_global_optspecs
    string join \n v/verbose q/quiet h/help V/version
end

function __fish_sshd_mend_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_sshd_mend_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_sshd_mend_using_subcommand
    set -l cmd (__fish_sshd_mend_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c sshd-mend -n "__fish_sshd_mend_needs_command" -s v -l verbose -d 'Print more: what was examined and left alone, and why'
complete -c sshd-mend -n "__fish_sshd_mend_needs_command" -s q -l quiet -d 'Print the verdict and what to do only'
complete -c sshd-mend -n "__fish_sshd_mend_needs_command" -s h -l help -d 'Print help'
complete -c sshd-mend -n "__fish_sshd_mend_needs_command" -s V -l version -d 'Print version'
complete -c sshd-mend -n "__fish_sshd_mend_needs_command" -f -a "check" -d 'Examine; change nothing'
complete -c sshd-mend -n "__fish_sshd_mend_needs_command" -f -a "repair" -d 'Examine, and repair what is broken'
complete -c sshd-mend -n "__fish_sshd_mend_needs_command" -f -a "hook" -d 'For package managers: repair, quiet, exit status 0'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand check" -l metrics -d 'Write Prometheus metrics to FILE, for the textfile collector of node_exporter' -r -F
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand check" -l json -d 'Print one JSON object'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand check" -l plugin -d 'Print what a monitoring plugin prints, with performance data (Nagios, Icinga, NRPE)'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand check" -l expect-sshd -d 'Call a machine critical on which no SSH server is installed or enabled'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand check" -s v -l verbose -d 'Print more: what was examined and left alone, and why'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand check" -s q -l quiet -d 'Print the verdict and what to do only'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand check" -s h -l help -d 'Print help'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand repair" -l dry-run -d 'Print what would be done, and do nothing'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand repair" -l json -d 'Print one JSON object'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand repair" -s v -l verbose -d 'Print more: what was examined and left alone, and why'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand repair" -s q -l quiet -d 'Print the verdict and what to do only'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand repair" -s h -l help -d 'Print help'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand hook" -l full -d 'Outside of package runs, for a timer or a unit that has failed: try everything, and do not ask policy-rc.d'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand hook" -s v -l verbose -d 'Print more: what was examined and left alone, and why'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand hook" -s q -l quiet -d 'Print the verdict and what to do only'
complete -c sshd-mend -n "__fish_sshd_mend_using_subcommand hook" -s h -l help -d 'Print help'
