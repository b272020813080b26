# A virtual machine from the current template, with the provider Telmate/proxmox, which asks imagebuild itself.
#
#   terraform init && terraform apply -var "public_key=$(cat ~/.ssh/id_ed25519.pub)"
#
# The provider reads PM_API_URL (https://…:8006/api2/json), PM_API_TOKEN_ID (user@realm!name) and PM_API_TOKEN_SECRET;
# imagebuild runs in this folder, so IMAGEBUILD_CONFIG must name its imagebuild.yaml where that is not further up.

terraform {
  required_version = ">= 1.3"
  required_providers {
    proxmox = {
      source  = "Telmate/proxmox"
      # Terraform takes a release candidate only where it is named exactly.
      version = "3.0.2-rc07"
    }
    external = {
      source  = "hashicorp/external"
      version = ">= 2.3"
    }
  }
}

provider "proxmox" {}

variable "public_key" {
  description = "Who may log in"
  type        = string
}

variable "storage" {
  description = "For disks"
  type        = string
  default     = "local-lvm"
}

variable "bridge" {
  type    = string
  default = "vmbr0"
}

# Asked at each plan. Further keys: selector ("previous", or a version), node, target.
data "external" "debian_base" {
  program = ["imagebuild", "resolve", "--terraform-external"]
  query = {
    image = "debian-base"
  }
}

resource "proxmox_vm_qemu" "web" {
  name        = "web"
  target_node = data.external.debian_base.result.node
  clone_id    = tonumber(data.external.debian_base.result.vmid)
  full_clone  = true
  tags        = "terraform"
  agent       = 1
  memory      = 2048
  scsihw      = "virtio-scsi-single"
  os_type     = "cloud-init"
  ciuser      = "debian"
  sshkeys     = var.public_key
  ipconfig0   = "ip=dhcp"

  cpu {
    cores = 2
  }

  # What is not named here, this provider takes away from the clone.
  disks {
    scsi {
      scsi0 {
        disk {
          storage = var.storage
          size    = "8G"
        }
      }
    }
    ide {
      ide2 {
        cloudinit {
          storage = var.storage
        }
      }
    }
  }

  network {
    id     = 0
    model  = "virtio"
    bridge = var.bridge
  }

  serial {
    id   = 0
    type = "socket"
  }

  vga {
    type = "serial0"
  }

  lifecycle {
    # A new template is for new machines: without this, it would replace or move the running one.
    ignore_changes = [clone_id, target_node]
  }
}

output "address" {
  value = proxmox_vm_qemu.web.default_ipv4_address
}
