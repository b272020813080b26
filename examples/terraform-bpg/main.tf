# A virtual machine and a container from the current templates, with the provider bpg/proxmox.
#
#   imagebuild outputs --format tfvars > imagebuild.auto.tfvars.json
#   terraform init && terraform apply -var "public_key=$(cat ~/.ssh/id_ed25519.pub)"
#
# The provider reads PROXMOX_VE_ENDPOINT and PROXMOX_VE_API_TOKEN, as imagebuild does, and believes whom the system
# believes: SSL_CERT_FILE names another CA's PEM file.

terraform {
  required_version = ">= 1.3"
  required_providers {
    proxmox = {
      source  = "bpg/proxmox"
      version = ">= 0.70"
    }
  }
}

provider "proxmox" {}

variable "imagebuild_templates" {
  description = "What imagebuild outputs --format tfvars prints"
  type = map(object({
    kind    = string
    vmid    = number
    node    = string
    version = string
    digest  = string
    built   = string
    archive = optional(string)
  }))
}

variable "public_key" {
  description = "Who may log in to the machine"
  type        = string
}

variable "bridge" {
  type    = string
  default = "vmbr0"
}

variable "datastore" {
  description = "For the container's root file system and the machine's cloud-init drive"
  type        = string
  default     = "local-lvm"
}

locals {
  machine   = var.imagebuild_templates["debian-base"]
  container = var.imagebuild_templates["debian-base-lxc"]
}

resource "proxmox_virtual_environment_vm" "web" {
  name      = "web"
  node_name = local.machine.node
  # A clone inherits imagebuild's tags. They mean nothing on it.
  tags = ["terraform"]

  clone {
    vm_id     = local.machine.vmid
    node_name = local.machine.node
  }

  agent {
    enabled = true
  }

  network_device {
    bridge = var.bridge
  }

  initialization {
    datastore_id = var.datastore
    ip_config {
      ipv4 {
        address = "dhcp"
      }
    }
    user_account {
      username = "debian"
      keys     = [var.public_key]
    }
  }

  lifecycle {
    # A new template is for new machines: without this, it would replace the running one.
    ignore_changes = [clone, node_name]
  }
}

# Not a clone: who is created from the archive gets its host keys and root's key from Proxmox.
resource "proxmox_virtual_environment_container" "cache" {
  node_name    = local.container.node
  unprivileged = true
  tags         = ["terraform"]

  operating_system {
    template_file_id = local.container.archive
    type             = "debian"
  }

  disk {
    datastore_id = var.datastore
    size         = 4
  }

  network_interface {
    name   = "eth0"
    bridge = var.bridge
  }

  initialization {
    hostname = "cache"
    ip_config {
      ipv4 {
        address = "dhcp"
      }
    }
    user_account {
      keys = [var.public_key]
    }
  }

  lifecycle {
    ignore_changes = [operating_system, node_name]
  }
}

output "addresses" {
  value = proxmox_virtual_environment_vm.web.ipv4_addresses
}
