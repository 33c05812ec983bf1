/** Runs a command that doctor advises as a person would, by pasting it into a shell. */
import { equal } from "node:assert/strict";

/** One call of a program that speaks to the cluster, the program first. */
export type Call = readonly string[];

/** What `kubectl` prints that further words of the command need. */
export interface Answers {
  readonly token: string;
  readonly authority: string;
}

/**
 * Stand-ins for programs that change a cluster, or the machine beyond namespaces: each notes how it was
 * called. A module that is not there cannot be loaded.
 */
const standIns: Readonly<Record<string, string>> = {
  kubectl: `case "$*" in
    *"get secret"*) printf %s "$TOKEN" | base64 -w0 ;;
    *"get configmap"*) printf %s "$AUTHORITY" ;;
    *"get pod -o name"*) echo pod/kuma-cni-x ;;
  esac`,
  helm: "",
  systemctl: "",
  journalctl: "",
  curl: "",
  auditctl: "",
  "install-cni": "",
  modprobe: "exit 1",
};

/** Programs, a folder of which stands in front of the others. */
export class AdvisedCommands {
  readonly #folder: string;
  readonly #notes: string;

  constructor(parent: string) {
    this.#folder = `${parent}/stand-ins`;
    this.#notes = `${parent}/calls`;
    Deno.mkdirSync(this.#folder);
    for (const [name, text] of Object.entries(standIns)) {
      const note = `printf '%s\\0' ${name} "$@" >> "$NOTES"; echo >> "$NOTES"`;
      Deno.writeTextFileSync(`${this.#folder}/${name}`, `#!/bin/sh\n${note}\n${text}\n`, {
        mode: 0o755,
      });
    }
  }

  /**
   * Runs a command.
   *
   * @param entrance Words in front of it.
   * @returns The calls that it made, in order.
   */
  async run(command: string, answers: Answers, entrance: readonly string[] = []): Promise<Call[]> {
    Deno.writeTextFileSync(this.#notes, "");
    const [program, ...args] = [...entrance, "sh", "-ec", command];
    const { code, stderr } = await new Deno.Command(program!, {
      args,
      env: {
        PATH: `${this.#folder}:/usr/sbin:/usr/bin:/sbin:/bin`,
        NOTES: this.#notes,
        TOKEN: answers.token,
        AUTHORITY: answers.authority,
      },
      clearEnv: true,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).output();
    equal(code, 0, `${command}: ${new TextDecoder().decode(stderr)}`);
    return Deno.readTextFileSync(this.#notes).split("\0\n").slice(0, -1)
      .map((call) => call.split("\0"));
  }
}
