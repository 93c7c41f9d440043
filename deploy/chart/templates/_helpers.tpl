{{- define "esxiproxy.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- $name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "esxiproxy.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "esxiproxy.labels" -}}
{{ include "esxiproxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "esxiproxy.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "esxiproxy.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "esxiproxy.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "esxiproxy.configMap" -}}
{{ .Values.existingConfigMap | default (include "esxiproxy.name" .) }}
{{- end }}

{{- define "esxiproxy.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Fails for values that each are valid and do not fit each other. */ -}}
{{- define "esxiproxy.check" -}}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.state.redis.url) }}
{{- fail "replicaCount is above 1, but the replicas share no state: a link could be used once on each, and limits would hold for each. Set state.redis.url to the URL of a Redis, or replicaCount to 1." }}
{{- end }}
{{- if and .Values.state.redis.existingSecret (not .Values.state.redis.url) }}
{{- fail "state.redis.existingSecret is the password of a Redis that is not named: set state.redis.url." }}
{{- end }}
{{- if not .Values.existingConfigMap }}
{{- if regexMatch `(?m)^\[(proxy|admin)\]` .Values.config }}
{{- fail "config has a section [proxy] or [admin]: write their keys into proxy and admin, and the other sections into config." }}
{{- end }}
{{- range $key := list "state" "state_password_file" "drain_timeout" }}
{{- if hasKey $.Values.proxy $key }}{{ fail (printf "proxy has the key %s: the chart writes it from state.redis and drainSeconds." $key) }}{{ end }}
{{- end }}
{{- range $key := list "probe_listen" "socket" }}
{{- if hasKey $.Values.admin $key }}{{ fail (printf "admin has the key %s: the chart writes it." $key) }}{{ end }}
{{- end }}
{{- if and .Values.service.proxyProtocol (not (regexMatch `(?m)^proxy_protocol *= *yes` .Values.config)) }}
{{- fail "service.proxyProtocol is true, but no listener of config has proxy_protocol = yes: it would refuse every connection." }}
{{- end }}
{{- end }}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) }}
{{- fail "gateway.enabled is true without a gateway: set gateway.parentRefs." }}
{{- end }}
{{- end }}
