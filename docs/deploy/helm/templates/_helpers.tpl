{{- define "latchkey.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels that select the pods of one service; the argument is (list $ "auth"). */ -}}
{{- define "latchkey.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "latchkey.labels" -}}
{{- $root := index . 0 -}}
{{ include "latchkey.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "latchkey.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Security of a pod; the argument is the user. Both services share the group, which reads the secret. */ -}}
{{- define "latchkey.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "latchkey.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 10
  timeoutSeconds: 3
readinessProbe:
  httpGet: {path: /health/ready, port: http}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 1
{{- end -}}

{{- /* Pods of one service are spread over nodes. */ -}}
{{- define "latchkey.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "latchkey.selector" . | nindent 8 }}
{{- end -}}

{{- /* Variables about Redis; the arguments are the first part of their names and the values of `cluster`. */ -}}
{{- define "latchkey.redisVariables" -}}
{{- $prefix := first . -}}
{{- $cluster := last . -}}
{{- if $cluster.url -}}
- {name: {{ $prefix }}__CLUSTER__URL, value: {{ $cluster.url | quote }}}
{{ end -}}
{{- if $cluster.existingSecret -}}
- {name: {{ $prefix }}__CLUSTER__PASSWORD_FILE, value: /run/redis/password}
{{ if $cluster.sentinelKey -}}
- {name: {{ $prefix }}__CLUSTER__SENTINEL_PASSWORD_FILE, value: /run/redis/sentinel-password}
{{ end -}}
{{- end -}}
{{- end -}}

{{- /* The volume with the passwords of Redis; the argument is the values of `cluster`. */ -}}
{{- define "latchkey.redisVolume" -}}
- name: redis
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .key }}, path: password}
      {{- with .sentinelKey }}
      - {key: {{ . }}, path: sentinel-password}
      {{- end }}
{{- end -}}

{{- /* Refuses values that cannot work together. */ -}}
{{- define "latchkey.check" -}}
{{- $several := or (gt (int .Values.realtime.replicas) 1) .Values.realtime.autoscaling.enabled -}}
{{- if and $several (not .Values.realtime.cluster.url) -}}
{{- fail "realtime.replicas above 1 and realtime.autoscaling need realtime.cluster.url: without Redis each gateway has rooms of its own" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not (and .Values.ingress.authHost .Values.ingress.realtimeHost)) -}}
{{- fail "ingress.enabled needs ingress.authHost and ingress.realtimeHost" -}}
{{- end -}}
{{- end -}}
