/**
 * Installs once on a host of its own, when it is imported: whatever install-cni loads for the whole
 * process, such as the C library, is loaded then, and no test is blamed for it.
 */
import { Operations } from "../../installer/host/operations.ts";
import { InstallerHost, primaryList } from "./installer_host.ts";
import { doWork } from "./installer_work.ts";

await using host = new InstallerHost();
host.writeConf("10-calico.conflist", primaryList);
host.writeConf("10-calico.conflist", primaryList.replace("calico", "calico2"));
await doWork("install", host.settings(), new Operations());
