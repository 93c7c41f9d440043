"""The property names of vSphere's types, so that a wrong path is answered as vCenter does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_ENTITY: Final = """
    value availableField parent customValue overallStatus configStatus configIssue effectiveRole permission
    name disabledMethod recentTask declaredAlarmState triggeredAlarmState alarmActionsEnabled tag
"""

PROPERTIES: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(names.split())
    for name, names in {
        "ServiceInstance": "serverClock capability content",
        "SessionManager": "sessionList currentSession message messageLocaleList defaultLocale",
        "ViewManager": "viewList",
        "PropertyCollector": "filter",
        "ContainerView": "view container type recursive",
        "Task": "value availableField info",
        "Folder": _ENTITY + "childType childEntity namespace externallyManagedFolderInfo",
        "Datacenter": _ENTITY
        + "vmFolder hostFolder datastoreFolder networkFolder datastore network configuration",
        "ComputeResource": _ENTITY + "resourcePool host datastore network summary environmentBrowser"
        " configurationEx",
        "HostSystem": _ENTITY
        + "runtime summary hardware capability licensableResource configManager config vm"
        " datastore network datastoreBrowser systemResources",
        "VirtualMachine": _ENTITY
        + "capability config layout layoutEx storage environmentBrowser resourcePool"
        " parentVApp resourceConfig runtime guest summary datastore network snapshot rootSnapshot"
        " guestHeartbeatStatus",
    }.items()
}
"""The properties of each managed type."""

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(names.split())
    for name, names in {
        "VirtualMachineRuntimeInfo": """
            device host connectionState powerState vmFailoverInProgress faultToleranceState dasVmProtection
            toolsInstallerMounted suspendTime bootTime suspendInterval question memoryOverhead maxCpuUsage
            maxMemoryUsage numMksConnections recordReplayState cleanPowerOff needSecondaryReason onlineStandby
            minRequiredEVCModeKey consolidationNeeded offlineFeatureRequirement featureRequirement featureMask
            paused snapshotInBackground quiescedForkParent instantCloneFrozen cryptoState suspendedToMemory
            opNotificationTimeout iommuActive""",
        "VirtualMachineConfigInfo": """
            changeVersion modified name guestFullName version uuid createDate instanceUuid locationId template
            guestId alternateGuestName annotation files tools flags consolePreferences defaultPowerOps
            rebootPowerOff hardware cpuAllocation memoryAllocation latencySensitivity memoryHotAddEnabled
            cpuHotAddEnabled cpuHotRemoveEnabled extraConfig datastoreUrl swapPlacement bootOptions vAppConfig
            changeTrackingEnabled firmware maxMksConnections guestAutoLockEnabled managedBy nestedHVEnabled
            keyId""",
        "VirtualMachineSummary": "vm runtime guest config storage quickStats overallStatus customValue",
        "HostRuntimeInfo": """
            connectionState powerState standbyMode inMaintenanceMode inQuarantineMode bootTime
            healthSystemRuntime dasHostState""",
        "HostListSummary": """
            host hardware runtime config quickStats overallStatus rebootRequired customValue
            managementServerIp maxEVCModeKey currentEVCModeKey gateway""",
        "HostConfigSummary": """
            name port sslThumbprint sslCertificate product vmotionEnabled faultToleranceEnabled
            featureVersion""",
        "HostConfigInfo": """
            host product deploymentInfo hyperThread storageDevice network vmotion service firewall option
            certificate lockdownMode featureVersion""",
        "GuestInfo": """
            toolsStatus toolsVersionStatus toolsVersionStatus2 toolsRunningStatus toolsVersion
            toolsInstallType guestId guestFamily guestFullName hostName ipAddress net ipStack disk screen
            guestState""",
    }.items()
}
"""The fields of the data objects that a path may lead into. Those of other types are not checked."""

ROOT_STRUCTURES: Final[Mapping[tuple[str, str], str]] = {
    ("VirtualMachine", "runtime"): "VirtualMachineRuntimeInfo",
    ("VirtualMachine", "config"): "VirtualMachineConfigInfo",
    ("VirtualMachine", "guest"): "GuestInfo",
    ("VirtualMachine", "summary"): "VirtualMachineSummary",
    ("VirtualMachineSummary", "runtime"): "VirtualMachineRuntimeInfo",
    ("HostSystem", "runtime"): "HostRuntimeInfo",
    ("HostSystem", "config"): "HostConfigInfo",
    ("HostSystem", "summary"): "HostListSummary",
    ("HostListSummary", "config"): "HostConfigSummary",
    ("HostListSummary", "runtime"): "HostRuntimeInfo",
}
"""The types of properties and fields whose values are data objects with known fields."""

BASES: Final[Mapping[str, tuple[str, ...]]] = {
    "Folder": ("ManagedEntity", "ExtensibleManagedObject"),
    "Datacenter": ("ManagedEntity", "ExtensibleManagedObject"),
    "ComputeResource": ("ManagedEntity", "ExtensibleManagedObject"),
    "HostSystem": ("ManagedEntity", "ExtensibleManagedObject"),
    "VirtualMachine": ("ManagedEntity", "ExtensibleManagedObject"),
    "ContainerView": ("ManagedObjectView", "View"),
    "Task": ("ExtensibleManagedObject",),
}
"""The types that a type is derived from."""


def is_a(type_name: str, wanted: str) -> bool:
    """Return whether a managed type is the wanted one or is derived from it."""
    return wanted in (type_name, "ManagedObject") or wanted in BASES.get(type_name, ())


def exists(type_name: str, path: str) -> bool:
    """Return whether a type has a property at this path."""
    first, *rest = path.split(".")
    if type_name in PROPERTIES and first not in PROPERTIES[type_name]:
        return False
    structure = ROOT_STRUCTURES.get((type_name, first))
    for part in rest:
        if structure is None:
            return True
        if part not in FIELDS[structure]:
            return False
        structure = ROOT_STRUCTURES.get((structure, part))
    return True
